// All sequences' rows as one line of rows, for kernels that cut time wherever it suits them: which sequence a row belongs
// to, where it lies in memory, and which rows a thread takes.
#pragma once
#include "offsets.cuh"
#include "tiles.h"

namespace recblr::cuda {

// Rows that belong to sequences: all, or packed, those between the first and the last offset.
RECBLR_HD std::int64_t first_row(const Extent& e) { return e.offsets ? e.offsets[0] : 0; }
RECBLR_HD std::int64_t last_row(const Extent& e) { return e.offsets ? e.offsets[e.sequences] : e.sequences * e.length; }

// A sequence that has rows, and which: [start, stop).
struct Sequence {
  std::int64_t index, start, stop;

  // That of a row which belongs to one.
  RECBLR_HD Sequence(const Extent& e, std::int64_t row) {
    if (e.offsets) {
      // The last one that starts at or before it; those of no rows that start there come earlier.
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
  // The next one, which there is.
  RECBLR_HD void next(const Extent& e) {
    start = stop, ++index;
    if (!e.offsets)
      stop += e.length;
    else
      while ((stop = e.offsets[index + 1]) == start) ++index;
  }
};

// One pack of channels of an array, row after row, from one sequence into the next.
template <typename T>
class RowCursor {
 public:
  // Row `row`, which belongs to `sequence`, from channel c on.  An absent array stays null.
  RECBLR_HD RowCursor(const View<T>& v, const Extent& e, const Sequence& sequence, std::int64_t row, std::int64_t c) {
    const std::int64_t step = row - sequence.start;
    // The stride of an axis of one step is never taken and may be anything.
    time_ = v.data && (e.offsets || e.length > 1) ? v.time : 0;
    length_ = left_ = e.length, jump_ = 0;  // packed, memory has no seams
    at_ = v.data + c;
    if (e.offsets) {
      at_ += row * time_;
    } else {
      at_ += sequence.index * v.sequence + step * time_;
      left_ = e.length - step, jump_ = v.sequence - e.length * time_;
    }
    if (!v.data) at_ = nullptr, jump_ = 0;
  }
  // `back` rows earlier, in the same sequence.
  RECBLR_HD T* before(std::int64_t back) const { return at_ - back * time_; }
  RECBLR_HD T* at() const { return at_; }
  RECBLR_HD void next() {
    at_ += time_;
    if (--left_ == 0) at_ += jump_, left_ = length_;
  }

 private:
  T* at_;
  std::int64_t time_, jump_, length_, left_;
};

// What a thread takes of the tiles: the rows [begin, end), cut to those that belong to sequences, from channel c on.  A
// thread without work has none.
template <int N>
struct Share {
  std::int64_t row_block, c, begin, end;

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
