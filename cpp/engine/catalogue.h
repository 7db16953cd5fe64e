// The table of items, and the exact search for the best of them.
#pragma once
#include <cstdint>
#include <vector>

#include "engine/pool.h"

namespace recblr::engine {

// What is scanned.  The answer is always the float32 answer, to the last bit: the scan only finds the items that may
// belong to it, by a proven bound, and their float32 rows decide (catalogue_scan.h has the proof).
//   float32   the rows themselves; nothing is kept beside them
//   bfloat16  a copy of half their size
//   int8      a copy of about a quarter of their size; the fastest
enum class Precision { float32, bfloat16, int8 };

// Lists of items are sorted and without repeats.
struct Query {
  const float* vector = nullptr;  // (width), finite
  const std::int32_t* seen = nullptr;
  std::int64_t num_seen = 0;
  float seen_bias = 0;    // added to the scores of seen items
  bool mask_seen = true;  // leave the seen items out
  const std::int32_t* excluded = nullptr;
  std::int64_t num_excluded = 0;
  const std::int32_t* allowed = nullptr;  // null: every item is allowed
  std::int64_t num_allowed = 0;
};

struct Scored {
  std::int32_t item;
  float score;
};

// Items have the numbers [0, size()).  Queries may run at the same time; append() and retire() need the catalogue
// alone.
class Catalogue {
 public:
  // rows (count, width) are finite float32 numbers.  They stay where they are and must outlive the catalogue.
  Catalogue(const float* rows, std::int64_t count, std::int64_t width, Precision precision);

  std::int64_t size() const { return static_cast<std::int64_t>(retired_.size()); }
  std::int64_t width() const { return width_; }
  Precision precision() const { return precision_; }
  const float* row(std::int32_t item) const;

  // Adds items with the next numbers.  Their rows are copied.
  void append(const float* rows, std::int64_t count);

  // Leaves an item out of every answer from now on.  It keeps its number and its row.
  void retire(std::int32_t item);
  bool retired(std::int32_t item) const { return retired_[static_cast<std::size_t>(item)]; }

  // For each query its k best items, best first.  Of equal scores the smaller item number is first; a score of NaN is
  // last. out is (count, k); found[q] <= k is the number of items in row q.  One instruction set gives the same items
  // and the same bits for every precision, number of threads and number of queries.
  void best(const Query* queries, std::int64_t count, std::int64_t k, Scored* out, std::int64_t* found,
            Pool& pool) const;

  // The float32 scores of some items, without bias; the same bits as in best(): multiply_add over the width in order,
  // from zero.
  void scores(const float* vector, const std::int32_t* items, std::int64_t count, float* out) const;

 private:
  const float* rows_;
  std::int64_t count_, width_;
  Precision precision_;
  std::vector<float> appended_;
  std::vector<bool> retired_;
};

}  // namespace recblr::engine
