// The work of a training step between its matrix products, on raw pointers: the logits of the cross entropy, and
// dropout.
//
// Pure functions over a range of independent work; scan.h states their contract.
#pragma once
#include <cstdint>

#include "core/dispatch.h"
#include "core/elements.h"

namespace recblr {

// Replaces logits (rows, width), which are some columns of all logits, by exp(logit - most).  For each row, `most` is
// its largest logit here and `total` is the sum of the results. width is 1 or more.  Units are rows.
template <typename T>
struct SoftmaxPart {
  using Share = Units;
  T* logits;
  std::int64_t width;
  T *most, *total;
};

// y[i] = x[i] / (1 - p) with probability 1 - p, else 0.  Only (seed, i) decides, so the derivative is the same function
// of dy. `kept` is (1 - p) * 2^32, at most 2^32 - 1.  Units are blocks of kBlock elements.
template <typename T>
struct Dropout {
  using Share = Units;
  const T* x;
  T* y;
  std::int64_t size;
  std::uint64_t seed;
  std::uint32_t kept;
  T scale;

  static constexpr std::int64_t kBlock = 1024;
  std::int64_t units() const { return (size + kBlock - 1) / kBlock; }
};

#define RECBLR_TRAINING_KERNELS(T) RECBLR_KERNEL(SoftmaxPart<T>) RECBLR_KERNEL(Dropout<T>)
RECBLR_TRAINING_KERNELS(float)
RECBLR_TRAINING_KERNELS(double)

}  // namespace recblr
