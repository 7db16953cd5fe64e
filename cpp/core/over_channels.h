// Runs over channels, a vector at a time, the last one perhaps not full.
//
// Included inside an instruction set's namespace, after lanes.h.

// Calls f(c, load, store) for vectors of channels from begin to end; load and store take a pointer to channel c's
// element in some array.
template <typename A, typename F>
RECBLR_HD void over_channels(std::int64_t begin, std::int64_t end, F&& f) {
  constexpr std::int64_t kStep = kLanes<A>;
  std::int64_t c = begin;
  for (; c + kStep <= end; c += kStep)
    f(c, [](auto* at) __attribute__((always_inline)) { return load_lanes(at); },
      [](auto* at, auto v) __attribute__((always_inline)) { store_lanes(at, v); });
  if (c == end) return;
  const std::int64_t count = end - c;
  f(c, [count](auto* at) __attribute__((always_inline)) { return load_lanes(at, count); },
    [count](auto* at, auto v) __attribute__((always_inline)) { store_lanes(at, v, count); });
}
