// exp, expm1, roots, reciprocals and the sigmoid of single numbers on a device, and the formulas of the gates on them.
//
// float uses the estimates of the hardware, and each result is accurate to one or two units in the last place. double
// uses the CUDA library.
#pragma once
#include "formulas.cuh"

namespace recblr::cuda {

// The estimates of the hardware.  Denormals are flushed.  The relative errors from the PTX manual are 2^-22, 2^-23,
// 2^-22.9 and 2^-11.
#if defined(__CUDACC__)
RECBLR_HD float exp2_estimate(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
RECBLR_HD float reciprocal_estimate(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
RECBLR_HD float inverse_root_estimate(float x) {
  float y;
  asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
RECBLR_HD float tanh_estimate(float x) {
  float y;
  asm("tanh.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
#else
inline float exp2_estimate(float x) {
  return ::cuda_on_host::flush(
      ::cuda_on_host::approximate(std::exp2(static_cast<double>(::cuda_on_host::flush(x))), 0x1p-22));
}
inline float reciprocal_estimate(float x) {
  return ::cuda_on_host::flush(::cuda_on_host::approximate(1 / static_cast<double>(::cuda_on_host::flush(x)), 0x1p-23));
}
inline float inverse_root_estimate(float x) {
  return ::cuda_on_host::approximate(1 / std::sqrt(static_cast<double>(::cuda_on_host::flush(x))), 0x1.13p-23);
}
inline float tanh_estimate(float x) { return ::cuda_on_host::approximate(std::tanh(static_cast<double>(x)), 0x1p-11); }
#endif

// The larger, or the smaller, of x and a bound that is a number.  NaN stays NaN.
template <typename V>
RECBLR_HD V at_least(V x, float bound) {
  const V b = bound;
  return x < b ? b : x;
}
template <typename V>
RECBLR_HD V at_most(V x, float bound) {
  const V b = bound;
  return x > b ? b : x;
}

RECBLR_HD float reciprocal(float x) { return reciprocal_estimate(x); }
RECBLR_HD double reciprocal(double x) { return 1 / x; }

template <typename V>
struct Roots {
  V root, inverse;
};
RECBLR_HD Roots<float> roots(float x) {
  const float inverse = inverse_root_estimate(x);
  return {x * inverse, inverse};
}
RECBLR_HD Roots<double> roots(double x) {
  const double root = ::sqrt(x);
  return {root, 1 / root};
}

// Declared before the include, because the included file looks these names up at this point.
template <typename V>
struct Exponentials;
RECBLR_HD Exponentials<float> exponentials(float x);
RECBLR_HD Exponentials<double> exponentials(double x);
RECBLR_HD float exponential(float x);
#include "core/logistic-inl.h"

// exp(x).  Above 87 and below -87, x is replaced by the bound, as on a CPU.
RECBLR_HD float exponential(float x) {
  constexpr float kBound = 87.0f;
  x = at_most(at_least(x, -kBound), kBound);
  // exp(x) = 2^(x log2 e).  A factor restores what rounding removed from the product and from log2 e.
  constexpr float kLog2E = 0x1.715476p+0f, kLog2ERest = 0x1.4ae0c0p-26f, kLn2 = 0x1.62e430p-1f;
  const float power = x * kLog2E;
  const float rest = multiply_add(x, kLog2ERest, multiply_add(x, kLog2E, -power));
  const float estimate = exp2_estimate(power);
  return multiply_add(estimate, rest * kLn2, estimate);
}

// exp(x) and exp(x) - 1, each accurate on its own.  Near zero, exp too comes from the polynomial, which is more
// accurate than the estimate.  The errors of factors near one add up over all steps that a state lives.
RECBLR_HD Exponentials<float> exponentials(float x) {
  constexpr float kNear = 0x1.62e430p-2f;  // ln 2 / 2
  const float exp = exponential(x), near_zero = expm1_near_zero(x);
  const bool near = -kNear < x && x < kNear;
  return {near ? 1 + near_zero : exp, near ? near_zero : exp - 1};
}
RECBLR_HD Exponentials<double> exponentials(double x) { return {::exp(x), ::expm1(x)}; }

// The sigmoid for results that are stored in 16 bits.  Its relative error is 2^-21, plus |x| 2^-23 because the argument
// of exp is rounded.
RECBLR_HD float brief_sigmoid(float x) { return reciprocal(1 + exp2_estimate(x * -0x1.715476p+0f)); }

// The sigmoid for uses that need only 11 bits.  It takes one estimate instead of two.  Its error is at most 2^-12.
RECBLR_HD float coarse_sigmoid(float x) { return multiply_add(0.5f, tanh_estimate(0.5f * x), 0.5f); }

#include "core/gates-inl.h"

}  // namespace recblr::cuda
