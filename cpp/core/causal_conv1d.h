// The depthwise causal convolution over time with SiLU, and its adjoint, on raw pointers, in one pass over memory.
//
// Pure functions over a task (tasks.h); scan.h states their contract.  Time runs only forward.
#pragma once
#include <cstdint>

#include "core/scan.h"
#include "core/tasks.h"

namespace recblr {

constexpr std::int64_t kMaxWidth = 64;

// The width K is 1 to kMaxWidth. taps (K, C) is contiguous; taps[K-1] multiplies the current input. initial (sequence,
// K-1, channel) holds the inputs before the first step. bias (C) and initial may be absent.  Neighbouring channels of x
// are neighbours in memory.
template <typename T>
struct ConvInputs {
  Extent extent;
  View<const T> x;
  std::int64_t width;
  const Accumulate<T>*taps, *bias;
  View<const Accumulate<T>> initial;
  bool silu;
};

// final (S, K-1, C) holds the last inputs and is contiguous.
template <typename T>
struct ConvForward {
  using Share = Task;
  ConvInputs<T> in;
  View<T> y;
  Accumulate<T>* final;
};

// Inputs: dy = dL/dy and dfinal = dL/d(final) (absent: zeros). dinitial (S, K-1, C) is contiguous. dtaps (runs, K, C)
// and dbias (runs, C) have one sum per run of sequences.
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
