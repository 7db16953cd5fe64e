// The rows of all sequences as one line, for kernels that may cut time anywhere: which sequence a row belongs to, where
// it lies in memory, and which rows a thread processes.
#pragma once
#include "offsets.cuh"
#include "tiles.h"

namespace recblr::cuda {

// The range of rows that belong to sequences.  If packed, these are the rows between the first and the last offset;
// otherwise all rows.
RECBLR_HD std::int64_t first_row(const Extent& e) { return e.offsets ? e.offsets[0] : 0; }
RECBLR_HD std::int64_t last_row(const Extent& e) { return e.offsets ? e.offsets[e.sequences] : e.rows; }

// A distance between rows in 32 bits, for a thread that processes few rows.  Large distances are clamped, because their
// exact value does not matter.
RECBLR_HD int near(std::int64_t distance) {
  constexpr int kFar = 1 << 30;
  return distance > kFar ? kFar : distance < -kFar ? -kFar : static_cast<int>(distance);
}

// A sequence that has rows: the rows [start, stop).
struct Sequence {
  std::int64_t index, start, stop;

  // The sequence of a row.  The row must belong to a sequence.
  RECBLR_HD Sequence(const Extent& e, std::int64_t row) {
    if (e.offsets) {
      // The last sequence that starts at or before the row.  Empty sequences that start at the same row come earlier.
      std::int64_t low = 0, high = e.sequences;
      while (high - low > 1) {
        const std::int64_t middle = low + (high - low) / 2;
        (e.offsets[middle] <= row ? low : high) = middle;
      }
      index = low, start = e.offsets[low], stop = e.offsets[low + 1];
    } else {
      index = row / e.length, start = index * e.length, stop = start + e.length;
    }
  }
  // Goes to the next sequence with rows.  There must be one.
  RECBLR_HD void next(const Extent& e) {
    start = stop, ++index;
    if (!e.offsets)
      stop += e.length;
    else
      while ((stop = e.offsets[index + 1]) == start) ++index;
  }
};

// Points to one pack of channels of an array.  It moves row by row, also from one sequence into the next.
template <typename T>
class RowCursor {
 public:
  // Row `row`, which belongs to `sequence`, from channel c on.  An absent array stays null.
  RECBLR_HD RowCursor(const View<T>& v, const Extent& e, const Sequence& sequence, std::int64_t row, std::int64_t c) {
    const std::int64_t step = row - sequence.start;
    // If there is only one step, its stride is never used and may have any value.
    time_ = seam_ = v.data && (e.offsets || e.length > 1) ? v.time : 0;
    left_ = near(e.offsets ? e.rows : e.length - step), length_ = near(e.length);
    at_ = nullptr;
    if (!v.data) return;
    at_ = v.data + (e.offsets ? row * time_ : sequence.index * v.sequence + step * time_) + c;
    if (!e.offsets) seam_ = v.sequence - (e.length - 1) * time_;  // packed rows have no seam
  }
  // `back` rows earlier, in the same sequence.
  RECBLR_HD T* before(std::int64_t back) const { return at_ - back * time_; }
  RECBLR_HD T* at() const { return at_; }
  RECBLR_HD void next() {
    const bool seam = --left_ == 0;
    at_ += seam ? seam_ : time_;
    if (seam) left_ = length_;
  }

 private:
  T* at_;
  std::int64_t time_, seam_;  // seam_: from the last row of a sequence to the first row of the next
  int length_, left_;
};

// The part of the tiles that a thread processes: the rows [begin, end), cut to those that belong to sequences, from
// channel c on.  A thread without work has no rows.
template <int N>
struct Share {
  std::int64_t row_block, c, begin, end;

  RECBLR_HD int rows() const { return begin < end ? static_cast<int>(end - begin) : 0; }

  RECBLR_HD Share(const Tiles& t, const Extent& e) {
    row_block = block_index() / t.groups;
    const int tile = static_cast<int>(threadIdx.x) / t.lanes, lane = static_cast<int>(threadIdx.x) % t.lanes;
    c = (block_index() % t.groups * t.lanes + lane) * N;
    begin = (row_block * t.in_block + tile) * t.tile, end = begin + t.tile;
    const std::int64_t first = first_row(e), last = last_row(e);
    if (begin < first) begin = first;
    if (end > last) end = last;
    if (tile >= t.in_block || c >= e.channels) end = begin;
  }
};

}  // namespace recblr::cuda
