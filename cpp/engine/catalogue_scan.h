// The kernels of the catalogue: exact scores of rows, and the scan that finds the rows worth an exact score.
//
// The scan reads a smaller copy of the rows.  It drops an item only if a bound proves that its exact score is too low.
//
// Proof.  Let e be a row of n numbers, q the vector of a query, and S the float32 score of the row, with all its
// rounding errors.  The copy of e is c: c = s i with integers i (int8), or e rounded to bfloat16.  The copy of q is
// p = t j with integers j (int8), or q itself.  Then q.e = p.c + q.(e - c) + (q - p).c, and by Cauchy and Schwarz
//     |q.e - p.c| <= |q| |e - c| + |q - p| |c|.
// Sums of n products in float32 err by at most g |q| |e|, with g = n u / (1 - n u) and u = 2^-24, in any order.  So S
// differs from q.e by at most g |q| |e|, and a float32 sum for p.c with bfloat16 by at most g |q| |c|.  With int8 the
// sum j.i is exact; making it a float and multiplying it by s errs by at most 3 u |p| |c|.  With g <= 2 n u, therefore
//     |S - computed p.c| <= |q| error + |q - p| norm,   error = |e - c| + 2 (n + 16) u (|e| + |c|),   norm = |c|.
// The 16 leaves room for the roundings of what is compared.  `error` and `norm` are stored with the copy, the largest
// of each panel of items, rounded up.  A comparison f >= least - bound needs no more room, because rounding is
// monotonic: if f is at least the true difference, it is at least the rounded one. The kernels flush denormals.  Each
// of at most 2 n operations loses up to 2^-126 by this, an input up to 2^-126 times the other factor, and s t (j.i) up
// to n 127^2 2^-126: together less than `slack` = n 2^-111 (1 + |q| + max |e|). All of this holds divided by t, too,
// and so the kernels compare: it saves a multiplication an item.
//
// The bound needs numbers far from overflow and underflow (Probe::usable).  For other queries, and for rows of more
// than kWidest numbers, the rows themselves are scanned; their scores are exact.
#pragma once
#include <cstdint>

#include "core/dispatch.h"

namespace recblr::engine {

// What is scanned (catalogue.h).
enum class Precision { float32, bfloat16, int8 };

constexpr std::int64_t kPanel = 16;      // items that share a bound
constexpr std::int64_t kBlock = 64;      // items whose numbers lie interleaved
constexpr std::int64_t kChunk = 4096;    // items, at most, of one call of a kernel
constexpr std::int64_t kWidest = 16384;  // int32 holds the sum of this many products of bytes
constexpr float kLargestNorm = 0x1p60f;  // of a row whose copy is scanned

// The copies of a block of items: its bounds, with int8 a scale for each item, then groups of 4 bytes of each item, one
// item after another.  A group is four numbers i + 128 (int8) or two (bfloat16).
struct Bounds {
  float error[kBlock / kPanel], norm[kBlock / kPanel];
  float unused[8];  // groups begin at lines of the cache
};
constexpr std::int64_t group_of(Precision p) { return p == Precision::int8 ? 4 : 2; }
constexpr std::int64_t groups_of(Precision p, std::int64_t width) { return (width + group_of(p) - 1) / group_of(p); }
constexpr std::int64_t scale_bytes(Precision p) { return p == Precision::int8 ? kBlock * 4 : 0; }
constexpr std::int64_t block_bytes(Precision p, std::int64_t width) {
  return static_cast<std::int64_t>(sizeof(Bounds)) + scale_bytes(p) + groups_of(p, width) * kBlock * 4;
}

// Items with neighbouring numbers, from `first` on.
struct Table {
  const float* rows;            // (count, width)
  const unsigned char* blocks;  // null for float32
  std::int64_t count, width;
  std::int32_t first;
  Precision precision;
};

// Fills blocks with the copies of the rows, and raises max_norm to the largest norm of a row.  Units are blocks.
struct Pack {
  using Share = Units;
  Table table;
  unsigned char* blocks;
  float* max_norm;
};

// A query as the scan needs it.
struct Probe {
  const float* vector;        // (width)
  std::int32_t* words;        // the copy of the vector, as this machine multiplies it; room for words_of(width)
  std::int32_t offset;        // int8: what the 128 of the items adds to each sum, negated
  float unit;                 // t
  float per_error, per_norm;  // |q| / t, |q - p| / t, rounded up
  float slack;                // as above, divided by t
  bool usable;
};
constexpr std::int64_t words_of(std::int64_t width) { return width + 64; }

// Fills the probe, whose vector and words are set. max_norm is the largest norm of a row.  One unit.
struct Prepare {
  using Share = Units;
  Probe* probe;
  Precision precision;
  std::int64_t width;
  float max_norm;
};

// A query in a scan.  The survivors are the items that may have a score of `least` or more.
struct Scanned {
  const Probe* probe;
  float least;              // the scan divides it by t
  std::int32_t* survivors;  // room for kChunk
  std::int64_t num_survivors;
};

// Scans for several queries.  Units are blocks, kChunk items at most.
struct Scan {
  using Share = Units;
  Table table;
  Scanned* queries;
  std::int64_t count;
};

// Scans for one query of which nothing is known yet. `least` is found here: at least k items of these blocks reach it.
// Bits of left_out[b], b from the first block on, are items that cannot be in the answer; those after the last item are
// set.
struct FirstScan {
  using Share = Units;
  Table table;
  Scanned* query;
  const std::uint64_t* left_out;
  std::int64_t k;
};

// out[i] = the score of item items[i], for i in the share: multiply_add over the width in order, from zero.
struct RowScores {
  using Share = Units;
  const float *rows, *appended;  // the items [0, split), and the others
  std::int64_t split, width;
  const float* vector;
  const std::int32_t* items;
  float* out;
};

}  // namespace recblr::engine

namespace recblr {

#define RECBLR_CATALOGUE_KERNELS   \
  RECBLR_KERNEL(engine::Pack)      \
  RECBLR_KERNEL(engine::Prepare)   \
  RECBLR_KERNEL(engine::Scan)      \
  RECBLR_KERNEL(engine::FirstScan) \
  RECBLR_KERNEL(engine::RowScores)
RECBLR_CATALOGUE_KERNELS

}  // namespace recblr
