// The behavior-dependent linear recurrent unit on raw pointers, gates and all in one pass over memory, and its adjoint.
//
// Pure functions over a task (tasks.h), as in scan.h.  Time runs forward only.
#pragma once
#include <cstdint>

#include "core/scan.h"
#include "core/tasks.h"

namespace recblr {

// The backward pass starts from states that the forward pass leaves: before every row whose number, counted through
// all sequences, is a multiple of this.
constexpr std::int64_t kStateRows = 32;

// gates holds r's pre-activations, then i's, (.., 2C); z may be absent.  Channels are neighbours in memory in all
// of these.  scale (sequence, time), in float32 or float64, may be absent.
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

// From dy = dL/dy and dL/d(final) (absent: zeros).  dinitial (S, C) is contiguous; dz and dscale (rows) are absent
// where z and scale are; ddecay (runs, C) is a sum for every run of sequences.
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
