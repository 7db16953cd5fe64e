// The table of items, and the exact search for the best of them.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "engine/catalogue_scan.h"
#include "engine/memory.h"
#include "engine/pool.h"

namespace recblr::engine {

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
//
// The precision says what a search scans.  The answer is always the float32 answer, to the last bit: the scan only
// finds the items that may belong to it, by a proven bound (catalogue_scan.h), and their float32 rows decide.
//   float32   the rows themselves; nothing is kept beside them
//   bfloat16  a copy of half their size, and 1 byte an item
//   int8      a copy of a quarter of their size, and 5 bytes an item; the fastest
class Catalogue {
 public:
  // rows (count, width) are finite float32 numbers.  They stay where they are and must outlive the catalogue.
  Catalogue(const float* rows, std::int64_t count, std::int64_t width, Precision precision);

  std::int64_t size() const { return base_.count + appended_.count; }
  std::int64_t width() const { return width_; }
  Precision precision() const { return precision_; }
  std::int64_t copy_bytes() const { return static_cast<std::int64_t>(base_.copy.size() + appended_.copy.size()); }
  const float* row(std::int32_t item) const {
    return item < base_.count ? base_.rows + item * width_ : appended_.rows + (item - base_.count) * width_;
  }

  // Adds items with the next numbers.  Their rows are copied.
  void append(const float* rows, std::int64_t count);

  // Leaves an item out of every answer from now on.  It keeps its number and its row.
  void retire(std::int32_t item);
  bool retired(std::int32_t item) const;

  // For each query its k best items, best first.  Of equal scores the smaller item number is first; a score of NaN is
  // last. out is (count, k); found[q] <= k is the number of items in row q.  One instruction set gives the same items
  // and the same bits for every precision, number of threads and number of queries.
  void best(const Query* queries, std::int64_t count, std::int64_t k, Scored* out, std::int64_t* found,
            Pool& pool) const;

  // How many items best() must give an exact score, because its bound does not rule them out; of all queries.
  std::int64_t survivors(const Query* queries, std::int64_t count, std::int64_t k, Pool& pool) const;

  // The float32 scores of some items, without bias; the same bits as in best(): multiply_add over the width in order,
  // from zero.
  void scores(const float* vector, const std::int32_t* items, std::int64_t count, float* out) const;

 private:
  // Items with neighbouring numbers: those of the constructor, or those that were appended.
  struct Part {
    const float* rows = nullptr;
    std::int64_t count = 0;
    Memory copy;                         // blocks of catalogue_scan.h
    std::vector<std::uint64_t> retired;  // a bit an item, a word a block; those after the last item are set
  };

  // What one thread does of best(): some queries, some chunks.
  struct Search;
  std::int64_t search(const Query* queries, std::int64_t count, std::int64_t k, Scored* out, std::int64_t* found,
                      Pool& pool) const;

  void pack(Part& part, std::int64_t from);
  Table table(const Part& part) const;
  std::int64_t copy_size(std::int64_t count) const;

  std::int64_t width_;
  Precision precision_;
  float max_norm_ = 0;  // the largest of a row, rounded up
  Part base_, appended_;
  std::vector<float> appended_rows_;
};

}  // namespace recblr::engine
