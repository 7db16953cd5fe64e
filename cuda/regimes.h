// Which of three ways work is shared out on a GPU: from its shape and the number of multiprocessors alone, so that
// neither addresses nor strides, nor values on the device, move a single bit of a result.
#pragma once
#include <cstdint>

#include "core/scan.h"

namespace recblr::cuda {

// As Launch::regime has them.  For the scan and for the unit; what each one does is in scan.h and in bdlru.h.
constexpr int kRows = 1, kWarps = 2, kSplit = 3;

struct WorkShape {
  std::int64_t sequences, rows, vectors;  // rows: of all sequences; vectors: 16 bytes of a row
  bool packed;

  WorkShape(const Extent& e, bool packed, std::size_t element)
      : sequences(e.sequences),
        rows(e.rows),
        vectors((e.channels * static_cast<std::int64_t>(element) + 15) / 16),
        packed(packed) {}
  std::int64_t average_length() const { return sequences ? rows / sequences : 0; }
};

// The thresholds follow from how much each way has under way from memory, of the 48 KiB a multiprocessor that keep it
// busy; none is measured yet.
inline int chosen_regime(const WorkShape& w, int multiprocessors) {
  constexpr std::int64_t kBusy = 48 * 1024;
  constexpr std::int64_t kUnderWay = 7 * 2 * 16;  // of a thread that reads two arrays, seven steps ahead
  constexpr std::int64_t kTile = 64, kLong = 1024;
  constexpr std::int64_t kBlockVectors = 8;
  const std::int64_t length = w.average_length();
  if (length < kTile) return kRows;  // no time to share out
  // Packed sequences differ in length, and a thread that is alone with the longest one keeps all others waiting.
  if (!w.packed && w.sequences * w.vectors * kUnderWay >= multiprocessors * kBusy) return kRows;
  const std::int64_t blocks = w.sequences * ((w.vectors + kBlockVectors - 1) / kBlockVectors);
  return blocks < multiprocessors && length >= kLong ? kSplit : kWarps;
}

// The length of a segment where time is split: so that 2^16 threads have one, within bounds.
inline std::int64_t segment_steps(const WorkShape& w) {
  constexpr std::int64_t kThreads = 1 << 16, kFewest = 32, kMost = 512;
  std::int64_t steps = kFewest;
  while (steps < kMost && w.rows / (2 * steps) * w.vectors >= kThreads) steps *= 2;
  return steps;
}

}  // namespace recblr::cuda
