// Cuts the work of the fused kernels into tasks.  The rows are cut into runs by shapes and offsets alone, so that the
// order of sums over rows does not depend on the number of threads.  If there are more threads than runs, channels are
// cut into blocks too; no sum crosses blocks.
#pragma once
#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include "core/scan.h"

namespace recblr {

// The sequences [first, last) and the channels [begin, end).  Of a sequence that was cut, only the steps [from, to).
struct Task {
  std::int64_t index, first, last, begin, end;
  std::int64_t from = 0, to = std::numeric_limits<std::int64_t>::max();
};

class Tasks {
 public:
  // A run is one or more whole sequences, with about 128 rows or more.  With `cut`, longer sequences are cut into such
  // runs too.
  explicit Tasks(const Extent& e, bool cut = false) : channels_(e.channels) {
    Run run{0, 0, 0, kToTheEnd, 0};
    for (std::int64_t s = 0; s < e.sequences; ++s) {
      const std::int64_t length = e.length_of(s);
      const std::int64_t pieces = std::min((length + kRows / 2) / kRows, kMostPieces);
      if (cut && pieces > 1) {
        if (run.last > run.first) runs_.push_back(run);
        for (std::int64_t p = 0; p < pieces; ++p) {
          const std::int64_t from = length / pieces * p, to = p + 1 < pieces ? from + length / pieces : length;
          runs_.push_back({s, s + 1, from, to, to - from});
        }
        run = {s + 1, s + 1, 0, kToTheEnd, 0};
        continue;
      }
      run.last = s + 1, run.rows += length;
      if (run.rows < kRows) continue;
      runs_.push_back(run);
      run = {s + 1, s + 1, 0, kToTheEnd, 0};
    }
    if (run.last > run.first) runs_.push_back(run);
  }

  // Keeps all channels of a run in one task, so that the task may sum over channels.
  void join_channels() {
    joined_ = true;
    block_ = std::max(channels_, kNarrowest);
  }

  // Divides channels until `threads` threads share the work well.  This has a cost: if cores write to neighbouring
  // parts of a row, each core prefetches lines that the other is about to write.  On 1x65536x64, two threads that share
  // rows of 64 channels in halves take 11.5 ms per pass; one thread takes 6.3 ms.
  void divide_channels(std::int64_t threads) {
    const auto uneven = [&] {
      return static_cast<double>(heaviest(threads) * threads) > kUneven * static_cast<double>(rows() * blocks());
    };
    while (!joined_ && block_ > kNarrowest && uneven()) block_ /= 2;
  }

  std::int64_t runs() const { return static_cast<std::int64_t>(runs_.size()); }
  std::int64_t count() const { return runs() * blocks(); }
  std::int64_t elements() const { return rows() * channels_; }

  // Blocks of one run are neighbours, so that a thread that has all of them reads whole rows.
  Task operator[](std::int64_t i) const {
    const std::int64_t index = i / blocks(), begin = i % blocks() * block_;
    const Run& run = runs_[static_cast<std::size_t>(index)];
    return {index, run.first, run.last, begin, std::min(begin + block_, channels_), run.from, run.to};
  }

  // Thread n of `threads` has the tasks [shares[n], shares[n + 1]).  Each thread gets about the same number of rows, in
  // the order of memory. torch's own operators divide their work in the same way, so a core finds in its cache what it
  // wrote itself.
  std::vector<std::int64_t> shares(std::int64_t threads) const {
    std::vector<std::int64_t> first(static_cast<std::size_t>(threads) + 1, count());
    const std::int64_t total = rows() * blocks();
    std::int64_t before = 0, next = 0;
    for (std::int64_t i = 0; i < count(); ++i) {
      const std::int64_t rows = runs_[static_cast<std::size_t>(i / blocks())].rows;
      const std::int64_t thread = total > 0 ? (2 * before + rows) * threads / (2 * total) : 0;
      while (next <= std::min(thread, threads - 1)) first[static_cast<std::size_t>(next++)] = i;
      before += rows;
    }
    return first;
  }

 private:
  struct Run {
    std::int64_t first, last, from, to, rows;
  };
  static constexpr std::int64_t kRows = 128, kMostPieces = 64, kToTheEnd = std::numeric_limits<std::int64_t>::max();
  static constexpr std::int64_t kWidest = 256, kNarrowest = 64;  // channels
  static constexpr double kUneven = 1.5;                         // a thread's largest work, as a multiple of the mean

  std::int64_t blocks() const { return (channels_ + block_ - 1) / block_; }
  std::int64_t rows() const {
    std::int64_t sum = 0;
    for (const Run& run : runs_) sum += run.rows;
    return sum;
  }
  // The rows of the thread that has most; each block of a run counts.
  std::int64_t heaviest(std::int64_t threads) const {
    const std::vector<std::int64_t> first = shares(threads);
    std::int64_t most = 0;
    for (std::size_t n = 0; n + 1 < first.size(); ++n) {
      std::int64_t sum = 0;
      for (std::int64_t i = first[n]; i < first[n + 1]; ++i) sum += runs_[static_cast<std::size_t>(i / blocks())].rows;
      most = std::max(most, sum);
    }
    return most;
  }

  std::int64_t channels_, block_ = kWidest;
  bool joined_ = false;
  std::vector<Run> runs_;
};

}  // namespace recblr
