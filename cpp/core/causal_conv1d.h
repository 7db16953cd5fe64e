// The depthwise causal convolution over time with SiLU on raw pointers, in one pass over memory, and its adjoint.
//
// Pure functions over a task (tasks.h), as in scan.h.  Time runs forward only.
#pragma once
#include <cstdint>

#include "core/scan.h"
#include "core/tasks.h"

namespace recblr {

constexpr std::int64_t kMaxWidth = 64;

// width K is 1 to kMaxWidth; taps (K, C), contiguous, taps[K-1] meets the current input; bias (C) and initial
// (sequence, K-1, channel), the inputs before the first step, may be absent.  Channels of x are neighbours in memory.
template <typename T>
struct ConvInputs {
  Extent extent;
  View<const T> x;
  std::int64_t width;
  const Accumulate<T>*taps, *bias;
  View<const Accumulate<T>> initial;
  bool silu;
};

// final (S, K-1, C), the last inputs, is contiguous.
template <typename T>
struct ConvForward {
  using Share = Task;
  ConvInputs<T> in;
  View<T> y;
  Accumulate<T>* final;
};

// From dy = dL/dy and dL/d(final) (absent: zeros).  dinitial (S, K-1, C) is contiguous; dtaps (runs, K, C) and dbias
// (runs, C) are sums for every run of sequences.
template <typename T>
struct ConvBackward {
  using Share = Task;
  ConvInputs<T> in;
  View<const T> dy;
  View<const Accumulate<T>> dfinal;
  View<T> dx;
  Accumulate<T>* dinitial;
  double *dtaps, *dbias;
};

#define RECBLR_CONV_KERNELS(T) RECBLR_KERNEL(ConvForward<T>) RECBLR_KERNEL(ConvBackward<T>)
RECBLR_REAL_TYPES(RECBLR_CONV_KERNELS)

}  // namespace recblr
