// The first-order linear recurrence h[t] = a[t] * h[t-1] + b[t] on raw pointers, and its adjoint.
//
// Pure functions over a range of independent work: they allocate nothing, start no thread and throw nothing.  The
// caller owns memory and parallelism. time_split.h is the caller that splits long sequences.
#pragma once
#include <cstdint>

#include "core/dispatch.h"
#include "core/elements.h"

namespace recblr {

// An array seen as (sequence, time, channel), or as (time, channel) if packed.  Strides count elements.  Every stride
// is legal, also 0.
template <typename T>
struct View {
  T* data = nullptr;  // null if the array is absent
  std::int64_t sequence = 0, time = 0, channel = 0;
};

// A stretch of one sequence, used if time is split: the rows [row, row + length) of plane `plane`.
struct Segment {
  std::int64_t plane = 0;  // index along the sequence axis of the data; 0 if packed
  std::int64_t row = 0, length = 0;
  std::int64_t sequence = 0;
  bool begins = true, ends = true;  // whether it holds the first, or the last, step of its sequence
};

// The sequences to scan: `sequences` sequences of `channels` channels.  Padded sequences have `length` rows each.
// Packed sequences lie one after another in `rows` rows; sequence s owns the rows [offsets[s], offsets[s + 1]).  If
// segments are given, each segment is scanned as a sequence of its own.
struct Extent {
  std::int64_t sequences = 0;
  std::int64_t length = 0;  // rows of one sequence; 0 if packed, since lengths differ then
  std::int64_t rows = 0;    // of all sequences; if packed, also the rows that no sequence owns
  std::int64_t channels = 0;
  const std::int64_t* offsets = nullptr;  // null if padded, or until a device has repaired them
  bool reverse = false;                   // time runs from the last row to the first row
  const Segment* segments = nullptr;
  std::int64_t segment_count = 0;

  static Extent padded(std::int64_t sequences, std::int64_t length, std::int64_t channels) {
    Extent e;
    e.sequences = sequences, e.length = length, e.rows = sequences * length, e.channels = channels;
    return e;
  }
  static Extent packed(std::int64_t sequences, std::int64_t rows, std::int64_t channels,
                       const std::int64_t* offsets = nullptr) {
    Extent e;
    e.sequences = sequences, e.rows = rows, e.channels = channels, e.offsets = offsets;
    return e;
  }

  // The number of rows of sequence s.
  std::int64_t length_of(std::int64_t s) const { return offsets ? offsets[s + 1] - offsets[s] : length; }

  // Work is counted in units.  A unit is one block of channels of one sequence or segment.
  static constexpr std::int64_t kBlock = 64;
  std::int64_t blocks() const { return (channels + kBlock - 1) / kBlock; }
  std::int64_t stretches() const { return segments ? segment_count : sequences; }
  std::int64_t units() const { return stretches() * blocks(); }
};

// Elements are T. initial is the state before each sequence or segment; final is the state after each sequence.  Both
// are (index, channel); their time stride is not used.  An absent initial means zeros.  An absent final is not written.
// No output may overlap an input.  If `ahead` is not 0, the inputs `ahead` steps later are prefetched, because a
// summary reads them next.  This is only a hint: the address may lie anywhere.
template <typename T>
struct ScanForward {
  using Share = Units;
  Extent extent;
  View<const T> a, b;
  View<const Accumulate<T>> initial;
  View<T> h;
  View<Accumulate<T>> final;
  std::int64_t ahead = 0;
};

// Inputs: dh = dL/dh, and a, h and initial of the forward pass.  Outputs: da, db, and dinitial (never absent). dfinal =
// dL/d(state after each sequence or segment); absent means zeros. initial and dinitial are indexed by sequence.
template <typename T>
struct ScanBackward {
  using Share = Units;
  Extent extent;
  View<const T> dh, a, h;
  View<const Accumulate<T>> initial, dfinal;
  View<T> da, db;
  View<Accumulate<T>> dinitial;
  std::int64_t ahead = 0;
};

// The effect of a stretch of time on a state: the state after it is product * state + from_zero.  If backward, the
// state is dL/dh and time runs in the other direction. x is b forward and dh backward. product and from_zero are
// (index, channel) and never absent.
template <typename T>
struct ScanSummary {
  using Share = Units;
  Extent extent;
  View<const T> a, x;
  bool backward = false;
  View<Accumulate<T>> product, from_zero;
};

// Carries states over the segments of extent, in their order, or if backward in the opposite order.  It writes the
// incoming state of each segment, (segment, channel).  Then it sets state (sequence, channel) to product * state +
// from_zero.  Units are blocks of channels.
template <typename T>
struct ScanCarry {
  using Share = Units;
  Extent extent;
  bool backward = false;
  View<const T> product, from_zero;
  View<T> state, incoming;
};

// The kernels.  T is an element type (elements.h); for ScanCarry, the type of a state.  A share [begin, end) has begin
// <= end <= extent.units(); for ScanCarry, end <= extent.blocks().
#define RECBLR_SCAN_KERNELS(T) \
  RECBLR_KERNEL(ScanForward<T>) RECBLR_KERNEL(ScanBackward<T>) RECBLR_KERNEL(ScanSummary<T>)
#define RECBLR_CARRY_KERNELS(T) RECBLR_KERNEL(ScanCarry<T>)
RECBLR_ELEMENT_TYPES(RECBLR_SCAN_KERNELS)
RECBLR_STATE_TYPES(RECBLR_CARRY_KERNELS)

}  // namespace recblr
