// The rows of training_rows.h on a CPU.  Compiled once per instruction set, each time into the namespace RECBLR_ISA (see
// scan_kernels.cpp).
#include "training_rows_isa.h"

#define RECBLR_HD inline __attribute__((always_inline))

namespace recblr::RECBLR_ISA {
namespace {

#include "flush_denormals.h"

constexpr int kWide = 64;  // elements to a step: enough vectors that sums do not wait for each other

// exp(x), x <= 0, within 2 units in the last place; 0 below the smallest normal number, NaN for NaN.
RECBLR_HD float exponential(float x) {
  constexpr float kInverseLn2 = 0x1.715476p+0f, kLn2High = 0.693359375f, kLn2Low = -0x1.bd0106p-13f, kRound = 0x1.8p23f;
  // x = n ln 2 + f.  Adding 1.5 * 2^23 rounds to an integer and leaves it in the lowest bits.
  const float rounded = x * kInverseLn2 + kRound;
  const float n = rounded - kRound;
  const float f = (x - n * kLn2High) - n * kLn2Low;
  std::uint32_t bits;
  __builtin_memcpy(&bits, &rounded, sizeof bits);
  bits = (bits << 23) + 0x3f800000u;
  float power;  // 2^n
  __builtin_memcpy(&power, &bits, sizeof power);
  const float tail = (((0x1.6d9a84p-10f * f + 0x1.12290ep-7f) * f + 0x1.555486p-5f) * f + 0x1.5554aep-3f) * f + 0.5f;
  const float e = ((f * f) * tail + f) * power + power;
  return x < -87.0f ? 0.0f : e;
}
RECBLR_HD double exponential(double x) { return __builtin_exp(x); }
RECBLR_HD float logarithm(float x) { return __builtin_logf(x); }
RECBLR_HD double logarithm(double x) { return __builtin_log(x); }

template <typename T>
T largest(const T* __restrict row, std::int64_t n) {
  T most = row[0];
  std::int64_t i = 0;
  if (n >= kWide) {
    T lanes[kWide];
    for (int k = 0; k < kWide; ++k) lanes[k] = row[k];
    for (i = kWide; i + kWide <= n; i += kWide)
      for (int k = 0; k < kWide; ++k) lanes[k] = lanes[k] < row[i + k] ? row[i + k] : lanes[k];
    for (int k = 0; k < kWide; ++k) most = most < lanes[k] ? lanes[k] : most;
  }
  for (; i < n; ++i) most = most < row[i] ? row[i] : most;
  return most;
}

// row = exp(row - shift); returns its sum.
template <typename T>
T exponentiate(T* __restrict row, std::int64_t n, T shift) {
  T lanes[kWide];
  for (int k = 0; k < kWide; ++k) lanes[k] = 0;
  std::int64_t i = 0;
  for (; i + kWide <= n; i += kWide) {
    for (int k = 0; k < kWide; ++k) {
      const T e = exponential(row[i + k] - shift);
      row[i + k] = e;
      lanes[k] += e;
    }
  }
  for (int k = 0; i < n; ++i, ++k) lanes[k] += row[i] = exponential(row[i] - shift);
  for (int half = kWide / 2; half > 0; half /= 2)
    for (int k = 0; k < half; ++k) lanes[k] += lanes[k + half];
  return lanes[0];
}

template <typename T>
void rows(const SoftmaxGradient<T>& w, std::int64_t begin, std::int64_t end) {
  [[maybe_unused]] const FlushDenormals<T> guard;
  for (std::int64_t r = begin; r < end; ++r) {
    T* __restrict row = w.logits + r * w.catalogue;
    const std::int64_t target = w.targets[r];
    const T shift = largest(row, w.catalogue), wanted = row[target] - shift;
    const T total = exponentiate(row, w.catalogue, shift), share = 1 / total;
    for (std::int64_t i = 0; i < w.catalogue; ++i) row[i] *= share;
    row[target] -= 1;
    w.losses[r] = logarithm(total) - wanted;
  }
}

// SplitMix64's output at place `index` of the stream that begins at `seed`: 64 random bits.
RECBLR_HD std::uint64_t random_bits(std::uint64_t seed, std::uint64_t index) {
  std::uint64_t z = seed + (index + 1) * 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

// W pairs of elements, each decided by half of 64 bits: i by the lower, i + W by the upper.
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
void blocks(const Dropout<T>& w, std::int64_t begin, std::int64_t end) {
  constexpr int kPairs = 32;
  std::int64_t i = begin * Dropout<T>::kBlock;
  const std::int64_t stop = end * Dropout<T>::kBlock < w.size ? end * Dropout<T>::kBlock : w.size;
  for (; i + 2 * kPairs <= stop; i += 2 * kPairs) pairs<kPairs>(w, w.x + i, w.y + i, static_cast<std::uint64_t>(i / 2));
  if (i == stop) return;
  T x[2 * kPairs] = {}, y[2 * kPairs];
  for (std::int64_t k = i; k < stop; ++k) x[k - i] = w.x[k];
  pairs<kPairs>(w, x, y, static_cast<std::uint64_t>(i / 2));
  for (std::int64_t k = i; k < stop; ++k) w.y[k] = y[k - i];
}

}  // namespace

#define RECBLR_DEFINE_ELEMENT(T)                                                                                                  \
  void softmax_gradient(const SoftmaxGradient<T>& w, std::int64_t begin, std::int64_t end) noexcept { rows<T>(w, begin, end); }   \
  void dropout(const Dropout<T>& w, std::int64_t begin, std::int64_t end) noexcept { blocks<T>(w, begin, end); }

RECBLR_DEFINE_ELEMENT(float)
RECBLR_DEFINE_ELEMENT(double)

}  // namespace recblr::RECBLR_ISA
