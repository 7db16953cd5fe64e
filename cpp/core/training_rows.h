// What a step of training does between its matrix products, on raw pointers: the cross entropy's logits, and dropout.
//
// Pure functions over a range of independent work, as in scan.h.
#pragma once
#include <cstdint>

#include "core/dispatch.h"
#include "core/elements.h"

namespace recblr {

// Some columns of rows of logits, (rows, width) one after another, become exp(logit - most): of each row, `most` is the
// largest of its logits and `total` the sum of what they became.  width is 1 or more.  Units are rows.
template <typename T>
struct SoftmaxPart {
  using Share = Units;
  T* logits;
  std::int64_t width;
  T *most, *total;
};

// y[i] = x[i] / (1 - p) with probability 1 - p, else 0: decided by (seed, i) alone, so that its derivative is the same
// function of dy.  `kept` is (1 - p) * 2^32, at most 2^32 - 1.  Units are blocks of kBlock elements.
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
