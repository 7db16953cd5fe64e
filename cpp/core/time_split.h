// Shares a scan among threads, by sequences and blocks of channels.  If those are too few, it splits time as well.  The
// split depends only on shapes and the element type, so the bits of a result do not depend on the number of threads.
//
// A long sequence is cut into segments.  Groups of segments are processed one after another, in three steps.  First
// every segment is summarised: what it does to an incoming state.  Then states are carried over the summaries.  Then
// every segment is scanned from its state, while the inputs of the group are still in cache.  So memory is read once.
// Threads synchronise once per group, since one call of `Parallel` scans a group and summarises the next one.  The scan
// mostly writes to memory; meanwhile it prefetches the inputs that the summary reads next.
//
// `Parallel` is called with (units, elements, f) and calls f(begin, end) for ranges that cover [0, units). elements is
// the approximate number of elements in a unit.
#pragma once
#include <algorithm>
#include <cstdint>
#include <vector>

#include "core/scan.h"

namespace recblr {

class TimeSplit {
 public:
  TimeSplit(const Extent& e, std::int64_t element_size) {
    if (e.units() == 0 || e.units() >= kEnoughUnits) return;
    const std::int64_t row = std::min(e.channels, Extent::kBlock) * element_size;
    steps_ = std::max<std::int64_t>(kSegmentBytes / row, 1);
    elements_ = steps_ * std::min(e.channels, Extent::kBlock);
    std::int64_t longest = 0;
    for (std::int64_t s = 0; s < e.sequences; ++s) longest = std::max(longest, e.length_of(s));
    if (longest < kMinSegments * steps_) return;
    // The outer loop is time, so that the segments of a group depend only on earlier groups, and on each other in
    // order.
    for (std::int64_t done = 0; done == 0 || done < longest; done += steps_) {
      for (std::int64_t s = 0; s < e.sequences; ++s) {
        const std::int64_t all = e.length_of(s);
        if (done > 0 && done >= all) continue;
        Segment part;
        part.plane = e.offsets ? 0 : s;
        part.sequence = s;
        part.length = std::min(steps_, all - done);
        const std::int64_t first = e.offsets ? e.offsets[s] : 0;
        part.row = e.reverse ? first + all - done - part.length : first + done;
        part.begins = done == 0;
        part.ends = done + part.length == all;
        segments_.push_back(part);
      }
    }
    group_ = std::max<std::int64_t>(kUnitsInGroup / e.blocks(), 1);
  }

  bool empty() const { return segments_.empty(); }
  std::int64_t group() const { return group_; }
  std::int64_t groups() const { return (count() + group_ - 1) / group_; }
  std::int64_t elements_per_unit() const { return elements_; }

  // The approximate distance in steps between a segment and its counterpart in the next group.
  std::int64_t ahead(const Extent& e) const { return group_ * steps_ / e.sequences; }

  // The extent of group g, in the order of time.  It is empty if there is no such group.
  Extent of_group(Extent e, std::int64_t g) const {
    const bool exists = g >= 0 && g < groups();
    e.segments = segments_.data() + (exists ? g * group_ : 0);
    e.segment_count = exists ? std::min(group_, count() - g * group_) : 0;
    return e;
  }

 private:
  static constexpr std::int64_t kEnoughUnits = 8;       // from this number on, sequences and channels occupy the cores
  static constexpr std::int64_t kMinSegments = 4;       // a sequence with fewer is not cut
  static constexpr std::int64_t kSegmentBytes = 16384;  // per array and block of channels
  static constexpr std::int64_t kUnitsInGroup = 64;     // about 2 MiB of inputs

  std::int64_t count() const { return static_cast<std::int64_t>(segments_.size()); }

  std::vector<Segment> segments_;
  std::int64_t group_ = 0, elements_ = 0, steps_ = 0;
};

// The buffers of the summaries and the carried states, and the two steps that use them.
template <typename T>
class Carried {
  using A = Accumulate<T>;

 public:
  Carried(const Extent& e, const TimeSplit& split, const View<const A>& start)
      : channels_(e.channels),
        state_(size(e.sequences)),
        product_(size(split.group())),
        from_zero_(size(split.group())),
        incoming_(size(split.group())) {
    if (!start.data) return;
    for (std::int64_t s = 0; s < e.sequences; ++s)
      for (std::int64_t c = 0; c < channels_; ++c)
        state_[static_cast<std::size_t>(s * channels_ + c)] = start.data[s * start.sequence + c * start.channel];
  }

  // The work that finds the effect of each segment of e on a state.
  ScanSummary<T> summary(const Extent& e, const View<const T>& a, const View<const T>& x, bool backward) {
    return {e, a, x, backward, rows(product_), rows(from_zero_)};
  }
  // Carries the states over the summaries of e's segments.
  void over(const Extent& e, bool backward) {
    compute(ScanCarry<A>{e, backward, read(product_), read(from_zero_), rows(state_), rows(incoming_)},
            {0, e.blocks()});
  }
  // The incoming state of each segment of the last `over`, (segment, channel).
  View<const A> incoming() const { return read(incoming_); }

 private:
  std::size_t size(std::int64_t count) const { return static_cast<std::size_t>(count * channels_); }
  View<A> rows(std::vector<A>& v) const { return {v.data(), channels_, 0, 1}; }
  View<const A> read(const std::vector<A>& v) const { return {v.data(), channels_, 0, 1}; }

  std::int64_t channels_;
  std::vector<A> state_, product_, from_zero_, incoming_;
};

// Scans a split extent from its start, or if backward from its end, beginning with the states of `start`. scan(extent,
// incoming, begin, end) scans a range of units of one group from their incoming states.
template <typename T, typename Parallel, typename Scan>
void run_split(const Extent& e, const TimeSplit& split, const View<const T>& a, const View<const T>& x, bool backward,
               const View<const Accumulate<T>>& start, const Parallel& parallel, const Scan& scan) {
  Carried<T> carried(e, split, start);
  const std::int64_t groups = split.groups();
  const auto group = [&](std::int64_t n) { return split.of_group(e, backward ? groups - 1 - n : n); };
  for (std::int64_t n = 0; n <= groups; ++n) {
    const Extent now = group(n - 1), next = group(n);
    const ScanSummary<T> summary = carried.summary(next, a, x, backward);
    const auto both = [&](std::int64_t begin, std::int64_t end) {
      const auto part = [&](const Extent& of, std::int64_t unit) { return std::min(unit, of.units()); };
      scan(now, carried.incoming(), part(now, begin), part(now, end));
      compute(summary, {part(next, begin), part(next, end)});
    };
    parallel(std::max(now.units(), next.units()), 2 * split.elements_per_unit(), both);
    carried.over(next, backward);
  }
}

// The mean number of elements in a unit of an extent that is not split.
inline std::int64_t elements_per_unit(const Extent& e) { return e.units() ? e.rows * e.channels / e.units() : 0; }

template <typename T, typename Parallel>
void run(const ScanForward<T>& work, Parallel parallel) {
  const Extent& e = work.extent;
  if (!e.offsets && e.length == 0 && !work.final.data) return;  // so that any number of empty sequences needs no memory
  const TimeSplit split(e, sizeof(T));
  if (split.empty()) {
    parallel(e.units(), elements_per_unit(e),
             [&](std::int64_t begin, std::int64_t end) { compute(work, {begin, end}); });
    return;
  }
  run_split<T>(
      e, split, work.a, work.b, false, work.initial, parallel,
      [&](const Extent& group, const View<const Accumulate<T>>& incoming, std::int64_t begin, std::int64_t end) {
        ScanForward<T> part = work;
        part.extent = group;
        part.initial = incoming;
        part.ahead = split.ahead(e);
        compute(part, {begin, end});
      });
}

template <typename T, typename Parallel>
void run(const ScanBackward<T>& work, Parallel parallel) {
  const Extent& e = work.extent;
  const TimeSplit split(e, sizeof(T));
  if (split.empty()) {
    parallel(e.units(), elements_per_unit(e),
             [&](std::int64_t begin, std::int64_t end) { compute(work, {begin, end}); });
    return;
  }
  run_split<T>(
      e, split, work.a, work.dh, true, work.dfinal, parallel,
      [&](const Extent& group, const View<const Accumulate<T>>& incoming, std::int64_t begin, std::int64_t end) {
        ScanBackward<T> part = work;
        part.extent = group;
        part.dfinal = incoming;
        part.ahead = split.ahead(e);
        compute(part, {begin, end});
      });
}

}  // namespace recblr
