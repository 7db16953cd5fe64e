// How the fused kernels' work is cut: into runs of whole sequences with some 128 rows or more, times blocks of channels.
// It follows from shapes and offsets alone, so that sums over rows have one order whatever the number of threads.
#pragma once
#include <cstdint>
#include <vector>

#include "scan.h"

namespace recblr {

// Sequences [first, last), of channels [begin, end).
struct Task {
  std::int64_t index, first, last, begin, end;
};

class Tasks {
 public:
  explicit Tasks(const Extent& e) : channels_(e.channels) {
    std::int64_t rows = 0;
    firsts_.push_back(0);
    for (std::int64_t s = 0; s < e.sequences; ++s) {
      rows += e.offsets ? e.offsets[s + 1] - e.offsets[s] : e.length;
      if (rows < kRows && s + 1 < e.sequences) continue;
      firsts_.push_back(s + 1);
      elements_ += rows * channels_;
      rows = 0;
    }
    while (block_ > kNarrowest && runs() * blocks() < kEnough) block_ /= 2;
  }

  // Keeps all channels of a run in one task, which then may add over them.
  void join_channels() { block_ = channels_ > 0 ? channels_ : 1; }

  std::int64_t runs() const { return static_cast<std::int64_t>(firsts_.size()) - 1; }
  std::int64_t count() const { return runs() * blocks(); }
  std::int64_t elements_per_task() const { return count() ? elements_ / count() : 0; }

  // Blocks of one run are neighbours, so that a thread that does them all reads whole rows.
  Task operator[](std::int64_t i) const {
    const std::int64_t run = i / blocks(), begin = i % blocks() * block_, end = begin + block_;
    const auto at = static_cast<std::size_t>(run);
    return {run, firsts_[at], firsts_[at + 1], begin, end < channels_ ? end : channels_};
  }

 private:
  static constexpr std::int64_t kRows = 128;
  static constexpr std::int64_t kEnough = 8;      // tasks that occupy the cores
  static constexpr std::int64_t kNarrowest = 16;  // channels: a vector, a cache line of float32
  std::int64_t blocks() const { return (channels_ + block_ - 1) / block_; }

  std::int64_t channels_, block_ = 256, elements_ = 0;
  std::vector<std::int64_t> firsts_;
};

}  // namespace recblr
