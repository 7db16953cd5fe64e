// The formulas that the CPU kernels use too, and what they need on a device: conversions between the stored type and
// the computing type of elements.
#pragma once
#include "device.cuh"
#include "core/scan.h"

namespace recblr::cuda {

#if defined(__CUDACC__)
template <typename T>
RECBLR_HD T widen(T x) {
  return x;
}
RECBLR_HD float widen(Bfloat16 x) { return __uint_as_float(static_cast<unsigned>(x.bits) << 16); }
RECBLR_HD float widen(Float16 x) { return __half2float(__ushort_as_half(x.bits)); }

// Stores x as the nearest T.  Ties go to even.
template <typename T>
RECBLR_HD void put(T& at, T x) {
  at = x;
}
RECBLR_HD void put(Bfloat16& at, float x) { at.bits = __bfloat16_as_ushort(__float2bfloat16_rn(x)); }
RECBLR_HD void put(Float16& at, float x) { at.bits = __half_as_ushort(__float2half_rn(x)); }
#else
#include "core/conversions-inl.h"
#endif

#include "core/recurrence-inl.h"
#include "core/walk-inl.h"

}  // namespace recblr::cuda
