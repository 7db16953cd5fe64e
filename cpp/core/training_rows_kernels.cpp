// The kernels of training_rows.h on a CPU.  Compiled once per instruction set, each time into the namespace RECBLR_ISA
// (see scan_kernels.cpp).
#include "core/training_rows.h"
#include "core/kernel.h"

namespace recblr::RECBLR_ISA {
namespace {

#include "core/flush_denormals-inl.h"
#include "core/conversions-inl.h"
#include "core/lanes-inl.h"
#include "core/elementary-inl.h"

constexpr int kVectors = 4;  // per step: enough that sums do not wait for each other

// exp(x) for x <= 0.  It is 0 if exp(x) is below the smallest normal number.
template <typename V>
RECBLR_HD V decayed(V x) {
  return x < -87.0f ? V{} : exponentials(x).exp;
}
RECBLR_HD Doubles decayed(Doubles x) { return exponentials(x).exp; }

template <typename T>
T largest(const T* row, std::int64_t n) {
  constexpr std::int64_t kStep = kVectors * kLanes<T>;
  T most = row[0];
  std::int64_t i = 0;
  if (n >= kStep) {
    Vector<T> lanes[kVectors];
    for (int v = 0; v < kVectors; ++v) lanes[v] = load_lanes(row + v * kLanes<T>);
    for (i = kStep; i + kStep <= n; i += kStep) {
      for (int v = 0; v < kVectors; ++v) {
        const Vector<T> x = load_lanes(row + i + v * kLanes<T>);
        lanes[v] = lanes[v] < x ? x : lanes[v];
      }
    }
    for (int v = 0; v < kVectors; ++v)
      for (int k = 0; k < kLanes<T>; ++k) most = most < lanes[v][k] ? lanes[v][k] : most;
  }
  for (; i < n; ++i) most = most < row[i] ? row[i] : most;
  return most;
}

// row = exp(row - shift).  Returns the sum of the new row.
template <typename T>
T exponentiate(T* row, std::int64_t n, T shift) {
  constexpr std::int64_t kStep = kVectors * kLanes<T>;
  Vector<T> lanes[kVectors] = {};
  std::int64_t i = 0;
  for (; i + kStep <= n; i += kStep) {
    for (int v = 0; v < kVectors; ++v) {
      const Vector<T> e = decayed(load_lanes(row + i + v * kLanes<T>) - shift);
      store_lanes(row + i + v * kLanes<T>, e);
      lanes[v] += e;
    }
  }
  Vector<T> sums{};
  for (int v = 0; v < kVectors; ++v) sums += lanes[v];
  T sum = 0;
  for (int k = 0; k < kLanes<T>; ++k) sum += sums[k];
  for (; i < n; i += kLanes<T>) {
    const std::int64_t count = n - i < kLanes<T> ? n - i : kLanes<T>;
    store_lanes(row + i, decayed(load_lanes(row + i, count) - shift), count);
    for (std::int64_t k = 0; k < count; ++k) sum += row[i + k];
  }
  return sum;
}

template <typename T>
void run(const SoftmaxPart<T>& w, const Units& rows) {
  [[maybe_unused]] const FlushDenormals<T> guard;
  for (std::int64_t r = rows.begin; r < rows.end; ++r) {
    T* row = w.logits + r * w.width;
    const T most = w.most[r] = largest(row, w.width);
    w.total[r] = exponentiate(row, w.width, most == -__builtin_huge_val() ? T(0) : most);
  }
}

// 64 random bits: the output of SplitMix64 at position `index` of the stream that begins at `seed`.
RECBLR_HD std::uint64_t random_bits(std::uint64_t seed, std::uint64_t index) {
  std::uint64_t z = seed + (index + 1) * 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

// Processes W pairs of elements.  Each pair uses 64 random bits: the lower half decides element i, the upper half i +
// W.
template <int W, typename T>
RECBLR_HD void pairs(const Dropout<T>& w, const T* __restrict x, T* __restrict y, std::uint64_t stream) {
  std::uint32_t lower[W], upper[W];
  for (int k = 0; k < W; ++k) {
    const std::uint64_t bits = random_bits(w.seed, stream + static_cast<std::uint64_t>(k));
    lower[k] = static_cast<std::uint32_t>(bits);
    upper[k] = static_cast<std::uint32_t>(bits >> 32);
  }
  const std::uint32_t kept = w.kept;
  const T scale = w.scale;
  for (int k = 0; k < W; ++k) {
    const T scaled = x[k] * scale;
    y[k] = lower[k] < kept ? scaled : T(0);
  }
  for (int k = 0; k < W; ++k) {
    const T scaled = x[k + W] * scale;
    y[k + W] = upper[k] < kept ? scaled : T(0);
  }
}

template <typename T>
void run(const Dropout<T>& w, const Units& blocks) {
  constexpr int kPairs = 32;
  std::int64_t i = blocks.begin * Dropout<T>::kBlock;
  const std::int64_t after = blocks.end * Dropout<T>::kBlock, stop = after < w.size ? after : w.size;
  for (; i + 2 * kPairs <= stop; i += 2 * kPairs) pairs<kPairs>(w, w.x + i, w.y + i, static_cast<std::uint64_t>(i / 2));
  if (i == stop) return;
  T x[2 * kPairs] = {}, y[2 * kPairs];
  for (std::int64_t k = i; k < stop; ++k) x[k - i] = w.x[k];
  pairs<kPairs>(w, x, y, static_cast<std::uint64_t>(i / 2));
  for (std::int64_t k = i; k < stop; ++k) w.y[k] = y[k - i];
}

}  // namespace

RECBLR_TRAINING_KERNELS(float)
RECBLR_TRAINING_KERNELS(double)

}  // namespace recblr::RECBLR_ISA
