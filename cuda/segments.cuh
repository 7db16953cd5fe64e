// Cuts sequences into segments of `steps` steps, so that blocks can share time.  Steps are counted from where time
// begins, so a sequence is cut in the same way wherever it lies.
//
// The device does this, because only the device knows where packed sequences lie.  The host knows how many places for
// segments are enough.  Sequence s has the places from s + offsets[s] / steps on: as many as it needs, and sometimes
// one more, which stays empty.
#pragma once
#include "offsets.cuh"

namespace recblr::cuda {

constexpr int kCutThreads = 128;

struct Cut {
  const std::int64_t* offsets;                  // on the device, trusted; null if not packed
  std::int64_t sequences, length, rows, steps;  // length, rows: as in an Extent
  bool reverse;

  // The number of segments of a sequence with `of` steps.  An empty sequence has one segment.
  RECBLR_EVERYWHERE std::int64_t segments(std::int64_t of) const { return of > steps ? (of + steps - 1) / steps : 1; }
  RECBLR_EVERYWHERE std::int64_t places() const {
    return offsets ? sequences + rows / steps : sequences * segments(length);
  }

  RECBLR_HD std::int64_t length_of(std::int64_t s) const { return offsets ? offsets[s + 1] - offsets[s] : length; }
  RECBLR_HD std::int64_t first_place(std::int64_t s) const {
    return offsets ? s + offsets[s] / steps : s * segments(length);
  }
  // The sequence of a place: the last one that begins at or before it.
  RECBLR_HD std::int64_t sequence_at(std::int64_t place) const {
    if (!offsets) return place / segments(length);
    std::int64_t low = 0, high = sequences;
    while (high - low > 1) {
      const std::int64_t middle = low + (high - low) / 2;
      if (first_place(middle) <= place)
        low = middle;
      else
        high = middle;
    }
    return low;
  }
};

template <int kThreads>
__global__ void __launch_bounds__(kThreads) cut_sequences(const __grid_constant__ Cut cut, Segment* to) {
  const std::int64_t place = thread_index();
  if (place >= cut.places()) return;
  const std::int64_t s = cut.sequence_at(place), n = place - cut.first_place(s), all = cut.length_of(s),
                     count = cut.segments(all);
  Segment part;
  part.sequence = s, part.begins = part.ends = false;
  if (n >= 0 && n < count) {
    const std::int64_t done = n * cut.steps, first = cut.offsets ? cut.offsets[s] : 0;
    part.plane = cut.offsets ? 0 : s;
    part.length = all - done < cut.steps ? all - done : cut.steps;
    part.row = cut.reverse ? first + all - done - part.length : first + done;
    part.begins = n == 0, part.ends = n == count - 1;
  }
  to[place] = part;
}

}  // namespace recblr::cuda
