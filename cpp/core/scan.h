// The first-order linear recurrence h[t] = a[t] * h[t-1] + b[t] on raw pointers, and its adjoint.
//
// Pure functions over a range of independent work: they allocate nothing, start no thread and
// throw nothing.  The caller owns memory and parallelism.
#pragma once
#include <cstdint>

namespace recblr {

// An array seen as (sequence, time, channel), or (time, channel) when packed; strides in elements.
// Every stride is legal, 0 included.
template <typename T>
struct View {
  T* data = nullptr;  // null: the array is absent
  std::int64_t sequence = 0, time = 0, channel = 0;
};

// What is scanned: `sequences` sequences of `channels` channels.  Packed sequences lie one after
// another: sequence s owns the rows [offsets[s], offsets[s + 1]).  Otherwise each has `length` rows.
struct Extent {
  std::int64_t sequences = 0, length = 0, channels = 0;
  const std::int64_t* offsets = nullptr;
  bool reverse = false;  // time runs from the last row to the first

  // Work is counted in units: one block of channels of one sequence.
  static constexpr std::int64_t kBlock = 64;
  std::int64_t blocks() const { return (channels + kBlock - 1) / kBlock; }
  std::int64_t units() const { return sequences * blocks(); }
};

// Elements are T; initial is (sequence, channel), its time stride is not read, absent means zeros.
// No output may overlap an input.
template <typename T>
struct ScanForward {
  Extent extent;
  View<const T> a, b, initial;
  View<T> h;
};

// From dh = dL/dh and the forward pass's a, h and initial: da, db, and dinitial (never absent).
template <typename T>
struct ScanBackward {
  Extent extent;
  View<const T> dh, a, h, initial;
  View<T> da, db, dinitial;
};

// Do the units [begin, end), begin <= end <= extent.units().  T is float or double.
template <typename T>
void scan_forward(const ScanForward<T>&, std::int64_t begin, std::int64_t end) noexcept;
template <typename T>
void scan_backward(const ScanBackward<T>&, std::int64_t begin, std::int64_t end) noexcept;

}  // namespace recblr
