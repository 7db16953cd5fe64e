// Included inside the including file's own namespace, never alone (see recurrence-inl.h).
//
// The place of the rows of one sequence or segment in memory, and how to walk them in the order of time.

struct Walk {
  std::int64_t plane, row, length;  // row: the first one in the order of time
  std::int64_t direction;           // +1, or -1 in reverse
  std::int64_t sequence;
  bool begins, ends;

  RECBLR_HD Walk(const Extent& e, std::int64_t index) : direction(e.reverse ? -1 : 1) {
    if (e.segments) {
      const Segment& s = e.segments[index];
      plane = s.plane, row = s.row, length = s.length, sequence = s.sequence, begins = s.begins, ends = s.ends;
    } else {
      plane = e.offsets ? 0 : index;
      row = e.offsets ? e.offsets[index] : 0;
      length = e.offsets ? e.offsets[index + 1] - e.offsets[index] : e.length;
      sequence = index, begins = ends = true;
    }
    if (e.reverse) row += length - 1;
  }
};

// One channel of an array along a walk.  The neighbouring channel is `channel` elements away.
template <typename T>
struct Stream {
  T* at;
  std::int64_t time, channel;
  RECBLR_HD T* step(std::int64_t t) const { return at + t * time; }
};
template <typename T>
RECBLR_HD Stream<T> forward_stream(const View<T>& v, const Walk& w, std::int64_t c) {
  if (w.length == 0) return {v.data, 0, v.channel};  // there is no first row to point to
  // If there is only one step, its stride is never used and may have any value.
  const std::int64_t time = w.length > 1 || !w.begins ? w.direction * v.time : 0;
  return {v.data + w.plane * v.sequence + w.row * v.time + c * v.channel, time, v.channel};
}
template <typename T>
RECBLR_HD Stream<T> backward_stream(const View<T>& v, const Walk& w, std::int64_t c) {
  const Stream<T> s = forward_stream(v, w, c);
  return {s.at + (w.length - 1) * s.time, -s.time, s.channel};
}

// Loads or stores the states of n channels from channel c on.  An absent view reads as zeros and ignores writes.
template <typename T>
RECBLR_HD void load_state(const View<const T>& v, std::int64_t index, std::int64_t c, std::int64_t n, T* state) {
  for (std::int64_t k = 0; k < n; ++k) state[k] = Constant<T>::zero();
  if (!v.data) return;
  const T* at = v.data + index * v.sequence + c * v.channel;
  for (std::int64_t k = 0; k < n; ++k) state[k] = at[k * v.channel];
}
template <typename T>
RECBLR_HD void store_state(const View<T>& v, std::int64_t index, std::int64_t c, std::int64_t n, const T* state) {
  if (!v.data) return;
  T* at = v.data + index * v.sequence + c * v.channel;
  for (std::int64_t k = 0; k < n; ++k) at[k * v.channel] = state[k];
}
