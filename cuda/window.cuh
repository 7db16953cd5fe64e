// The values of several rows that a thread of the convolution keeps: the last `width` rows of an array, and one sum for
// each tap. They lie in registers if the width is known at compile time, else in shared memory with one channel per
// thread.
#pragma once
#include "memory.cuh"

namespace recblr::cuda {

// N neighbouring numbers, at most 16 bytes at once.
template <int N, typename A>
RECBLR_HD void load_wide(const A* at, A* x) {
  constexpr int kMost = 16 / static_cast<int>(sizeof(A)), kStep = N < kMost ? N : kMost;
#pragma unroll
  for (int k = 0; k < N; k += kStep) widen(load_pack<A, kStep>(at + k), x + k);
}
template <int N, typename A>
RECBLR_HD void store_wide(A* at, const A* x) {
  constexpr int kMost = 16 / static_cast<int>(sizeof(A)), kStep = N < kMost ? N : kMost;
#pragma unroll
  for (int k = 0; k < N; k += kStep) store_narrow<kStep>(at + k, x + k);
}

// kWidth is the width, or 0 if the width is known only at run time.
template <int kWidth>
constexpr int kWindowThreads = kWidth ? 128 : 32;
// How often the loop over rows is unrolled. After this many rows, the window is in the same registers again, so no
// value has to be moved.
template <int kWidth>
constexpr int kWindowTurn = kWidth ? kWidth : 1;

// The last `width` rows. Index 0 is the oldest row.
template <typename A, int N, int kWidth>
class Window {
 public:
  __host__ __device__ static constexpr std::size_t bytes(std::int64_t) { return 0; }  // shared memory of a block
  RECBLR_HD Window(unsigned char*, std::int64_t) {}
  RECBLR_HD void push(const A* x) {
#pragma unroll
    for (int k = 0; k + 1 < kWidth; ++k)
#pragma unroll
      for (int n = 0; n < N; ++n) rows_[k][n] = rows_[k + 1][n];
#pragma unroll
    for (int n = 0; n < N; ++n) rows_[kWidth - 1][n] = x[n];
  }
  RECBLR_HD const A* operator()(int k) const { return rows_[k]; }

 private:
  A rows_[kWidth][N];
};
template <typename A, int N>
class Window<A, N, 0> {
  static_assert(N == 1, "one channel per thread");
  static constexpr int kThreads = kWindowThreads<0>;

 public:
  __host__ __device__ static constexpr std::size_t bytes(std::int64_t width) {
    return static_cast<std::size_t>(width) * kThreads * sizeof(A);
  }
  RECBLR_HD Window(unsigned char* shared, std::int64_t width)
      : mine_(reinterpret_cast<A*>(shared) + threadIdx.x), width_(static_cast<int>(width)), oldest_(0) {}
  RECBLR_HD void push(const A* x) {
    mine_[oldest_ * kThreads] = *x;
    oldest_ = oldest_ + 1 == width_ ? 0 : oldest_ + 1;
  }
  RECBLR_HD const A* operator()(int k) const {
    const int row = oldest_ + k;
    return mine_ + (row < width_ ? row : row - width_) * kThreads;
  }

 private:
  A* mine_;
  int width_, oldest_;
};

// The taps, and the bias or zeros.
template <typename A, int N, int kWidth>
class Taps {
 public:
  RECBLR_HD Taps(const A* taps, const A* bias, std::int64_t channels, std::int64_t c) {
#pragma unroll
    for (int k = 0; k < kWidth; ++k) load_wide<N>(taps + k * channels + c, taps_[k]);
#pragma unroll
    for (int n = 0; n < N; ++n) bias_[n] = 0;
    if (bias) load_wide<N>(bias + c, bias_);
  }
  RECBLR_HD A operator()(int k, int n) const { return taps_[k][n]; }
  RECBLR_HD A bias(int n) const { return bias_[n]; }

 private:
  A taps_[kWidth][N], bias_[N];
};
template <typename A, int N>
class Taps<A, N, 0> {
 public:
  RECBLR_HD Taps(const A* taps, const A* bias, std::int64_t channels, std::int64_t c)
      : taps_(taps + c), channels_(channels), bias_(bias ? bias[c] : A(0)) {}
  RECBLR_HD A operator()(int k, int) const { return taps_[k * channels_]; }
  RECBLR_HD A bias(int) const { return bias_; }

 private:
  const A* taps_;
  std::int64_t channels_;
  A bias_;
};

// One sum for each tap, and one for the bias.
template <typename A, int N, int kWidth>
class TapSums {
  static constexpr int kThreads = kWindowThreads<kWidth>;

 public:
  // The shared memory of a block. `publish` leaves the sum (k, n) of thread i at (k * N + n) * kThreads + i.
  __host__ __device__ static constexpr std::size_t bytes(std::int64_t) {
    return (kWidth + 1) * N * kThreads * sizeof(A);
  }
  RECBLR_HD TapSums(unsigned char*, std::int64_t) {
#pragma unroll
    for (int k = 0; k <= kWidth; ++k)
#pragma unroll
      for (int n = 0; n < N; ++n) sums_[k][n] = 0;
  }
  RECBLR_HD A& operator()(int k, int n) { return sums_[k][n]; }
  RECBLR_HD void publish(unsigned char* shared) const {
    A* to = reinterpret_cast<A*>(shared) + threadIdx.x;
#pragma unroll
    for (int k = 0; k <= kWidth; ++k)
#pragma unroll
      for (int n = 0; n < N; ++n) to[(k * N + n) * kThreads] = sums_[k][n];
  }

 private:
  A sums_[kWidth + 1][N];
};
template <typename A, int N>
class TapSums<A, N, 0> {
  static constexpr int kThreads = kWindowThreads<0>;

 public:
  __host__ __device__ static constexpr std::size_t bytes(std::int64_t width) {
    return static_cast<std::size_t>(width + 1) * kThreads * sizeof(A);
  }
  RECBLR_HD TapSums(unsigned char* shared, std::int64_t width) : mine_(reinterpret_cast<A*>(shared) + threadIdx.x) {
    for (std::int64_t k = 0; k <= width; ++k) mine_[k * kThreads] = 0;
  }
  RECBLR_HD A& operator()(int k, int) { return mine_[k * kThreads]; }
  RECBLR_HD void publish(unsigned char*) const {}  // the sums are already in shared memory

 private:
  A* mine_;
};

}  // namespace recblr::cuda
