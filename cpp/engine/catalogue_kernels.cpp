// The kernels of catalogue_scan.h.  Compiled once per instruction set, each time into the namespace RECBLR_ISA (see
// core/scan_kernels.cpp).
#include "engine/catalogue_scan.h"
#include "core/elements.h"
#include "core/kernel.h"

namespace recblr::RECBLR_ISA {
namespace {

#include "core/flush_denormals-inl.h"
#include "core/recurrence-inl.h"
#include "core/conversions-inl.h"
#include "core/lanes-inl.h"

constexpr int kTile = 4;  // vectors of items that are computed together
constexpr int kTileItems = kTile * kLanes<float>;
constexpr int kBlockVectors = static_cast<int>(engine::kBlock) / kLanes<float>;
#if defined(__AVX512F__)
constexpr int kTogether = 4;  // queries that are computed together: kTile * kTogether sums stay in registers
#else
constexpr int kTogether = 2;
#endif

RECBLR_HD Ints load_ints(const void* at) {
  Ints v;
  __builtin_memcpy(&v, at, sizeof v);
  return v;
}

RECBLR_HD float largest(Floats x) {
#if defined(__AVX512F__)
  return _mm512_reduce_max_ps((__m512)x);
#else
  float most = x[0];
  for (int k = 1; k < kLanes<float>; ++k) most = most < x[k] ? x[k] : most;
  return most;
#endif
}

RECBLR_HD float sum_of(Floats x) {
  float sum = 0;
  for (int k = 0; k < kLanes<float>; ++k) sum += x[k];
  return sum;
}

// Bit k: x[k] >= y[k], or one of them is NaN.
RECBLR_HD std::uint64_t not_below(Floats x, Floats y) {
#if defined(__AVX512F__)
  return _mm512_cmp_ps_mask((__m512)x, (__m512)y, _CMP_NLT_UQ);
#elif defined(__AVX2__)
  return static_cast<unsigned>(_mm256_movemask_ps(_mm256_cmp_ps((__m256)x, (__m256)y, _CMP_NLT_UQ)));
#elif defined(__SSE2__)
  return static_cast<unsigned>(_mm_movemask_ps(_mm_cmpnlt_ps((__m128)x, (__m128)y)));
#else
  std::uint64_t bits = 0;
  for (int k = 0; k < kLanes<float>; ++k) bits |= std::uint64_t{!(x[k] < y[k])} << k;
  return bits;
#endif
}

// x[k] where bit k is set, else y[k].
RECBLR_HD Floats where(std::uint64_t bits, Floats x, Floats y) {
  Ints mine;
  for (int k = 0; k < kLanes<float>; ++k) mine[k] = 1 << k;
  return (all(static_cast<std::int32_t>(bits)) & mine) != 0 ? x : y;
}

// Each lane: the sum of the products of its two pairs of 16-bit numbers.
RECBLR_HD Ints dot_pairs(Ints x, Ints y) {
#if defined(__AVX512BW__)
  return (Ints)_mm512_madd_epi16((__m512i)x, (__m512i)y);
#elif defined(__AVX2__)
  return (Ints)_mm256_madd_epi16((__m256i)x, (__m256i)y);
#elif defined(__SSE2__)
  return (Ints)_mm_madd_epi16((__m128i)x, (__m128i)y);
#else
  return (x << 16 >> 16) * (y << 16 >> 16) + (x >> 16) * (y >> 16);
#endif
}

// The k-th largest number, or less where numbers are equal. k is at most their number.
RECBLR_HD float kth_largest(Floats (&x)[kBlockVectors], std::int64_t k) {
  float found = 0;
  for (; k > 0; --k) {
    Floats most = x[0];
    for (int i = 1; i < kBlockVectors; ++i) most = most < x[i] ? x[i] : most;
    found = largest(most);
    for (int i = 0; i < kBlockVectors; ++i) x[i] = x[i] == found ? all(-__builtin_inff()) : x[i];
  }
  return found;
}

// A threshold that stays valid after a few roundings.
RECBLR_HD float lowered(float x, float slack) { return x - (__builtin_fabsf(x) * 0x1p-21f + slack); }

// Rounds to the nearest integer, for |x| < 2^22.
template <typename V>
RECBLR_HD V rounded(V x) {
  return (x + 0x1.8p23f) - 0x1.8p23f;
}

// --- exact scores ----------------------------------------------------------------------------------------------------
RECBLR_HD void prefetch(const float* row, std::int64_t count) {
  for (std::int64_t d = 0; d < count; d += 16) __builtin_prefetch(row + d);
}

// a[0], b[0], a[1], b[1] …
RECBLR_HD void interleave(Floats a, Floats b, Floats& low, Floats& high) {
#if defined(__AVX512F__)
  low = __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  high = __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
#elif defined(__AVX2__)
  low = __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
  high = __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
#else
  low = __builtin_shufflevector(a, b, 0, 4, 1, 5);
  high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
#endif
}

// Each round turns the bits of (vector, lane) by one place.  After log2 rounds they have changed places.
RECBLR_HD void transpose(Floats (&x)[kLanes<float>]) {
  constexpr int n = kLanes<float>;
#pragma GCC unroll 4
  for (int round = 1; round < n; round *= 2) {
    Floats y[n];
#pragma GCC unroll 8
    for (int i = 0; i < n / 2; ++i) interleave(x[i], x[i + n / 2], y[2 * i], y[2 * i + 1]);
    __builtin_memcpy(&x, &y, sizeof x);
  }
}

// sums[u] = the scores of kLanes rows for query u.  Every exact score comes from here.
template <int Q>
RECBLR_HD void exact_scores(const float* const (&rows)[kLanes<float>], std::int64_t width,
                            const float* const (&vectors)[Q], Floats (&sums)[Q]) {
  constexpr int n = kLanes<float>;
  for (int u = 0; u < Q; ++u) sums[u] = Floats{};
  std::int64_t d = 0;
  for (; d + n <= width; d += n) {
    Floats x[n];
#pragma GCC unroll 16
    for (int k = 0; k < n; ++k) x[k] = load_lanes(rows[k] + d);
    transpose(x);
#pragma GCC unroll 16
    for (int k = 0; k < n; ++k)
      for (int u = 0; u < Q; ++u) sums[u] = multiply_add(repeat(vectors[u][d + k]), x[k], sums[u]);
  }
  for (; d < width; ++d) {
    Floats x;
    for (int k = 0; k < n; ++k) x[k] = rows[k][d];
    for (int u = 0; u < Q; ++u) sums[u] = multiply_add(repeat(vectors[u][d]), x, sums[u]);
  }
}

void run(const engine::RowScores& w, const Units& share) {
  const FlushDenormals<float> guard;
  constexpr int n = kLanes<float>;
  const auto row = [&](std::int64_t i) __attribute__((always_inline)) {
    const std::int64_t item = w.items[i];
    return item < w.split ? w.rows + item * w.width : w.appended + (item - w.split) * w.width;
  };
  // The rows lie anywhere.
  for (std::int64_t i = share.begin; i < share.end && i < share.begin + 32; ++i) prefetch(row(i), w.width);
  for (std::int64_t i = share.begin; i < share.end; i += n) {
    const float* rows[n];
    const std::int64_t count = share.end - i < n ? share.end - i : n;
    for (std::int64_t k = 0; k < n; ++k) rows[k] = row(i + (k < count ? k : 0));
    Floats sums[1];
    exact_scores<1>(rows, w.width, {w.vector}, sums);
    if (count == n) {
      store_lanes(w.out + i, sums[0]);
    } else {
      store_lanes(w.out + i, sums[0], count);
    }
  }
}

// --- the scans -------------------------------------------------------------------------------------------------------
namespace plain {
#define RECBLR_TARGET
#include "engine/catalogue_scan-inl.h"
#undef RECBLR_TARGET
}  // namespace plain

#if defined(__AVX512BW__) && !defined(RECBLR_WITHOUT_BYTE_PRODUCTS)
namespace vnni {
#define RECBLR_TARGET __attribute__((target("avx512vnni")))
#define RECBLR_DOT_BYTES
#include "engine/catalogue_scan-inl.h"
#undef RECBLR_DOT_BYTES
#undef RECBLR_TARGET
}  // namespace vnni
bool dots_bytes() { return __builtin_cpu_supports("avx512vnni"); }
#else
namespace vnni = plain;
bool dots_bytes() { return false; }
#endif

void run(const engine::Scan& w, const Units& blocks) {
  const FlushDenormals<float> guard;
  switch (w.table.precision) {
    case engine::Precision::int8:
      return dots_bytes() ? vnni::scan<vnni::Int8>(w, blocks) : plain::scan<plain::Int8>(w, blocks);
    case engine::Precision::bfloat16: return plain::scan<plain::Bf16>(w, blocks);
    case engine::Precision::float32: return plain::scan<plain::Float32>(w, blocks);
  }
}

void run(const engine::FirstScan& w, const Units& blocks) {
  const FlushDenormals<float> guard;
  switch (w.table.precision) {
    case engine::Precision::int8:
      return dots_bytes() ? vnni::first_scan<vnni::Int8>(w, blocks) : plain::first_scan<plain::Int8>(w, blocks);
    case engine::Precision::bfloat16: return plain::first_scan<plain::Bf16>(w, blocks);
    case engine::Precision::float32: return plain::first_scan<plain::Float32>(w, blocks);
  }
}

// Rounded up, and by more than the few roundings that x has gone through.  At most the largest float.
float up(double x) {
  x *= 1 + 0x1p-18;
  return x < 0x1.fffffep127 ? static_cast<float>(x) : 0x1.fffffep127f;
}

// One row and its copy.
struct Packing {
  double row = 0, copy = 0, rest = 0;  // the squares of their numbers, and of the differences

  RECBLR_HD void add(double x, double c) { row += x * x, copy += c * c, rest += (x - c) * (x - c); }
};

RECBLR_HD Packing pack_bytes(const float* row, std::int64_t width, unsigned char* at, float& scale) {
  float most = 0;
  for (std::int64_t d = 0; d < width; ++d) {
    const float size = __builtin_fabsf(row[d]);
    most = most < size ? size : most;
  }
  // A row so close to zero has zeros for a copy, and all of it is the difference.
  scale = most < 0x1p-90f ? 0 : most / 127;
  const float inverse = scale > 0 ? 127 / most : 0;
  Packing p;
  for (std::int64_t d = 0; d < width; ++d) {
    const int whole = static_cast<int>(rounded(row[d] * inverse));
    at[d / 4 * engine::kBlock * 4 + d % 4] = static_cast<unsigned char>(whole + 128);
    p.add(row[d], static_cast<double>(scale) * whole);
  }
  return p;
}

RECBLR_HD Packing pack_bfloat16(const float* row, std::int64_t width, unsigned char* at) {
  Packing p;
  for (std::int64_t d = 0; d < width; ++d) {
    Bfloat16 c;
    put(c, row[d]);
    __builtin_memcpy(at + d / 2 * engine::kBlock * 4 + d % 2 * 2, &c, sizeof c);
    p.add(row[d], widen(c));
  }
  return p;
}

void run(const engine::Pack& w, const Units& blocks) {
  const engine::Table& t = w.table;
  const bool bytes = t.precision == engine::Precision::int8;
  const std::int64_t size = engine::block_bytes(t.precision, t.width);
  const std::int64_t before = static_cast<std::int64_t>(sizeof(engine::Bounds)) + engine::scale_bytes(t.precision);
  for (std::int64_t b = blocks.begin; b < blocks.end; ++b) {
    unsigned char* block = w.blocks + b * size;
    __builtin_memset(block, 0, static_cast<std::size_t>(before));
    __builtin_memset(block + before, bytes ? 128 : 0, static_cast<std::size_t>(size - before));
    engine::Bounds bounds{};
    for (std::int64_t i = 0; i < engine::kBlock && b * engine::kBlock + i < t.count; ++i) {
      const float* row = t.rows + (b * engine::kBlock + i) * t.width;
      float scale = 0;
      const Packing p = bytes ? pack_bytes(row, t.width, block + before + i * 4, scale)
                              : pack_bfloat16(row, t.width, block + before + i * 4);
      if (bytes) __builtin_memcpy(block + sizeof bounds + i * 4, &scale, sizeof scale);
      const double norm = __builtin_sqrt(p.row), copy = __builtin_sqrt(p.copy);
      const double rounding = static_cast<double>(t.width + 16) * 0x1p-23;
      const float error_up = up(__builtin_sqrt(p.rest) + rounding * (norm + copy)), copy_up = up(copy);
      float &error = bounds.error[i / engine::kPanel], &most = bounds.norm[i / engine::kPanel];
      error = error < error_up ? error_up : error;
      most = most < copy_up ? copy_up : most;
      if (*w.max_norm < norm) *w.max_norm = up(norm);
    }
    __builtin_memcpy(block, &bounds, sizeof bounds);
  }
}

void run(const engine::Prepare& w, const Units&) {
  const FlushDenormals<float> guard;
  engine::Probe& p = *w.probe;
  const bool bytes = w.precision == engine::Precision::int8;
  constexpr std::int64_t n = kLanes<float>;
  Floats most{}, squares{};
  const auto load = [&](std::int64_t d) __attribute__((always_inline)) {
    return d + n <= w.width ? load_lanes(p.vector + d) : load_lanes(p.vector + d, w.width - d);
  };
  for (std::int64_t d = 0; d < w.width; d += n) {
    const Floats x = load(d), size = x < 0.0f ? -x : x;
    most = most < size ? size : most;
    squares = multiply_add(x, x, squares);
  }
  // In this range the squares, and what follows from them, lose nothing by underflow.
  const float size = largest(most);
  p.usable = (size == 0 || (size >= 0x1p-20f && size <= 0x1p40f)) && w.max_norm <= engine::kLargestNorm &&
             w.width <= engine::kWidest;
  p.unit = 1, p.offset = 0, p.slack = p.per_error = p.per_norm = 0;
  if (!p.usable || w.precision == engine::Precision::float32) return;

  const float up = 1 + static_cast<float>(w.width + 16) * 0x1p-23f;  // more than all rounding errors of the sums
  const float norm = __builtin_sqrtf(sum_of(squares)) * up;
  if (size > 0) p.slack = static_cast<float>(w.width) * 0x1p-111f * (1 + norm + w.max_norm);
  if (!bytes) {
    for (std::int64_t d = 0; d < w.width; d += n) {
      const Ints words = bits(load(d));
      __builtin_memcpy(p.words + d, &words, sizeof words);
    }
    p.words[w.width] = 0;  // of the last group
    p.per_error = norm;
    return;
  }
  if (size > 0) p.unit = size / 127;
  const Floats inverse = all(size > 0 ? 127 / size : 0.0f), unit = all(p.unit);
  signed char numbers[engine::kWidest + 64];
  typedef signed char Bytes __attribute__((vector_size(kLanes<float>)));
  Ints sums{};
  squares = Floats{};
  for (std::int64_t d = 0; d < w.width; d += n) {
    const Floats x = load(d), whole = rounded(x * inverse), rest = multiply_add(-unit, whole, x);
    squares = multiply_add(rest, rest, squares);
    const Ints integers = __builtin_convertvector(whole, Ints);
    sums += integers;
    const Bytes narrow = __builtin_convertvector(integers, Bytes);
    __builtin_memcpy(numbers + d, &narrow, sizeof narrow);
  }
  for (int k = 0; k < 4; ++k) numbers[w.width + k] = 0;
  const std::int64_t groups = engine::groups_of(w.precision, w.width);
  dots_bytes() ? vnni::put_words(numbers, groups, p.words) : plain::put_words(numbers, groups, p.words);
  std::int32_t sum = 0;
  for (int k = 0; k < n; ++k) sum += sums[k];
  p.offset = -128 * sum;
  const float rest = __builtin_sqrtf(sum_of(squares)) * up + norm * 0x1p-21f;
  p.per_error = norm / p.unit * up, p.per_norm = rest / p.unit * up;
  p.slack /= p.unit;
}

}  // namespace

RECBLR_CATALOGUE_KERNELS

}  // namespace recblr::RECBLR_ISA
