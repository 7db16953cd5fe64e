// The behavior-dependent linear recurrent unit with its gates, and its adjoint, on raw pointers, in one pass over
// memory.
//
// Pure functions over a task (tasks.h); scan.h states their contract.  Time runs only forward.
#pragma once
#include <cstdint>

#include "core/scan.h"
#include "core/tasks.h"

namespace recblr {

// The forward pass stores the state before every row whose number is a multiple of kStateRows.  Rows are counted
// through all sequences.  The backward pass starts from these states.
constexpr std::int64_t kStateRows = 32;

// gates (.., 2C) holds the pre-activations of r, then those of i. z may be absent.  In x, gates and z, neighbouring
// channels are neighbours in memory. scale (sequence, time), in float32 or float64, may be absent.
template <typename T>
struct BdlruInputs {
  Extent extent;
  View<const T> x, gates, z;
  const Accumulate<T>* decay;  // (C)
  View<const Accumulate<T>> scale, initial;
};

// final (S, C) and states (rows / kStateRows rounded up, C) are contiguous.
template <typename T>
struct BdlruForward {
  using Share = Task;
  BdlruInputs<T> in;
  View<T> y;
  Accumulate<T>*final, *states;
};

// Inputs: dy = dL/dy and dfinal = dL/d(final) (absent: zeros). dinitial (S, C) is contiguous. dz is absent if z is,
// dscale (rows) if scale is. ddecay (runs, C) has one sum per run of sequences.
template <typename T>
struct BdlruBackward {
  using Share = Task;
  BdlruInputs<T> in;
  View<const T> dy;
  View<const Accumulate<T>> dfinal;
  const Accumulate<T>* states;
  View<T> dx, dgates, dz;
  Accumulate<T>*dinitial, *dscale;
  double* ddecay;
};

#define RECBLR_BDLRU_KERNELS(T) RECBLR_KERNEL(BdlruForward<T>) RECBLR_KERNEL(BdlruBackward<T>)
RECBLR_REAL_TYPES(RECBLR_BDLRU_KERNELS)

}  // namespace recblr
