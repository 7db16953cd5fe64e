// Chooses one of three ways to divide work on a GPU, only from its shape and the number of multiprocessors.  So the
// bits of a result depend neither on addresses, nor on strides, nor on values on the device.
#pragma once
#include <cstdint>

#include "core/scan.h"

namespace recblr::cuda {

// The values of Launch::regime, for the scan and for the unit. scan.h and bdlru.h explain what each one does.
constexpr int kRows = 1, kWarps = 2, kSplit = 3;

struct WorkShape {
  std::int64_t sequences, rows, vectors;  // rows: of all sequences. vectors: 16-byte parts of a row
  bool packed;

  WorkShape(const Extent& e, bool packed, std::size_t element)
      : sequences(e.sequences),
        rows(e.rows),
        vectors((e.channels * static_cast<std::int64_t>(element) + 15) / 16),
        packed(packed) {}
  std::int64_t average_length() const { return sequences ? rows / sequences : 0; }
};

// The thresholds compare the bytes that each way has in flight with the 48 KiB that keep one multiprocessor busy.  They
// have not been measured yet.
inline int chosen_regime(const WorkShape& w, int multiprocessors) {
  constexpr std::int64_t kBusy = 48 * 1024;
  constexpr std::int64_t kUnderWay = 7 * 2 * 16;  // bytes per thread: two arrays, seven steps ahead
  constexpr std::int64_t kTile = 64, kLong = 1024;
  constexpr std::int64_t kBlockVectors = 8;
  const std::int64_t length = w.average_length();
  if (length < kTile) return kRows;  // too few steps to divide
  // Packed sequences differ in length.  The thread with the longest sequence would keep all others waiting.
  if (!w.packed && w.sequences * w.vectors * kUnderWay >= multiprocessors * kBusy) return kRows;
  const std::int64_t blocks = w.sequences * ((w.vectors + kBlockVectors - 1) / kBlockVectors);
  return blocks < multiprocessors && length >= kLong ? kSplit : kWarps;
}

// The length of a segment if time is split.  It gives a segment to each of 2^16 threads, within bounds.
inline std::int64_t segment_steps(const WorkShape& w) {
  constexpr std::int64_t kThreads = 1 << 16, kFewest = 32, kMost = 512;
  std::int64_t steps = kFewest;
  while (steps < kMost && w.rows / (2 * steps) * w.vectors >= kThreads) steps *= 2;
  return steps;
}

}  // namespace recblr::cuda
