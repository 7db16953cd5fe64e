// The scan on a CPU.  This file is compiled once per instruction set, each time into the namespace RECBLR_ISA.
// Everything below is in that namespace, and no std template is used.  So the linker cannot replace a function of one
// instruction set by that of another.
#include "core/scan.h"
#include "core/kernel.h"

namespace recblr::RECBLR_ISA {
namespace {

#include "core/flush_denormals-inl.h"
#include "core/recurrence-inl.h"
#include "core/conversions-inl.h"
#include "core/walk-inl.h"
#include "core/scan_adjacent-inl.h"
#include "core/scan_tiled-inl.h"

template <typename T>
bool adjacent(const View<T>& v) {
  return v.channel == 1;
}
template <typename T>
bool all_adjacent(const ScanForward<T>& w) {
  return adjacent(w.a) && adjacent(w.b) && adjacent(w.h);
}
template <typename T>
bool all_adjacent(const ScanBackward<T>& w) {
  return adjacent(w.dh) && adjacent(w.a) && adjacent(w.h) && adjacent(w.da) && adjacent(w.db);
}
template <typename T>
bool all_adjacent(const ScanSummary<T>& w) {
  return adjacent(w.a) && adjacent(w.x);
}

// Whether time runs down in memory, if the rows are laid out in the usual order.
template <typename T>
bool runs_down(const ScanForward<T>& w) {
  return w.extent.reverse;
}
template <typename T>
bool runs_down(const ScanBackward<T>& w) {
  return !w.extent.reverse;
}
template <typename T>
bool runs_down(const ScanSummary<T>& w) {
  return w.extent.reverse != w.backward;
}

// The channels [c, stop) of one sequence or segment.
template <typename T, typename Work>
void channels(const Work& w, bool neighbours, std::int64_t index, std::int64_t c, std::int64_t stop) {
  if (neighbours) return run_rows<T>(w, index, c, stop - c);
  for (; c + kTile <= stop; c += kTile) Tiled::run(w, index, c);
  for (; c < stop; ++c) Adjacent<1>::run(w, index, c, Fixed<1>());
}

// All blocks of a sequence in the range are processed together, as whole rows.  Sequences are processed in the order in
// which time runs through memory.
template <template <typename> class Work, typename T>
void run(const Work<T>& w, const Units& units) {
  const auto [begin, end] = units;
  if (begin == end) return;
  [[maybe_unused]] const FlushDenormals<Accumulate<T>> guard;
  const bool neighbours = all_adjacent(w), down = runs_down(w);
  const std::int64_t blocks = w.extent.blocks(), first = begin / blocks, last = (end - 1) / blocks;
  for (std::int64_t i = first; i <= last; ++i) {
    const std::int64_t index = down ? last - (i - first) : i;
    const std::int64_t c = index == first ? (begin - first * blocks) * Extent::kBlock : 0;
    const std::int64_t stop = index == last ? (end - last * blocks) * Extent::kBlock : w.extent.channels;
    channels<T>(w, neighbours, index, c, stop < w.extent.channels ? stop : w.extent.channels);
  }
}

template <typename T>
void run(const ScanCarry<T>& w, const Units& units) {
  [[maybe_unused]] const FlushDenormals<T> guard;
  const std::int64_t count = w.extent.segment_count;
  const std::int64_t stop =
      units.end * Extent::kBlock < w.extent.channels ? units.end * Extent::kBlock : w.extent.channels;
  const auto at = [](const auto& v, std::int64_t index, std::int64_t c) {
    return v.data + index * v.sequence + c * v.channel;
  };
  for (std::int64_t n = 0; n < count; ++n) {
    const std::int64_t i = w.backward ? count - 1 - n : n;
    const std::int64_t s = w.extent.segments[i].sequence;
    for (std::int64_t c = units.begin * Extent::kBlock; c < stop; ++c) {
      T& state = *at(w.state, s, c);
      *at(w.incoming, i, c) = state;
      state = step_over(*at(w.product, i, c), state, *at(w.from_zero, i, c));
    }
  }
}

}  // namespace

RECBLR_ELEMENT_TYPES(RECBLR_SCAN_KERNELS)
RECBLR_STATE_TYPES(RECBLR_CARRY_KERNELS)

}  // namespace recblr::RECBLR_ISA
