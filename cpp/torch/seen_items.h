// The items that the user of a row already has: the distinct items of a history up to the event of the row.
#pragma once
#include <algorithm>
#include <cstdint>
#include <vector>

namespace recblr::torch_abi {

// The history of each row, from packed histories: the user of row r has items[begin[r], end[r]).
struct Histories {
  std::vector<std::int64_t> items, begin, end;
};

// The seen items in the catalogue's block [first, first + count), for one row after another.  If rows of one history
// come in the order of their events, each row costs only its new items.
class SeenItems {
 public:
  SeenItems(const Histories& histories, std::int64_t first, std::int64_t count)
      : histories_(histories), first_(first), seen_(static_cast<std::size_t>(count)) {}

  void go_to(std::int64_t row) {
    const std::int64_t begin = histories_.begin[static_cast<std::size_t>(row)],
                       end = histories_.end[static_cast<std::size_t>(row)];
    if (begin != begin_ || end < end_) {
      for (const std::int64_t item : items_) seen_[static_cast<std::size_t>(item)] = 0;
      items_.clear();
      begin_ = end_ = begin;
    }
    for (; end_ < end; ++end_) {
      const std::int64_t item = histories_.items[static_cast<std::size_t>(end_)] - first_;
      if (item < 0 || item >= static_cast<std::int64_t>(seen_.size()) || has(item)) continue;
      seen_[static_cast<std::size_t>(item)] = 1;
      items_.push_back(item);
    }
  }
  // Each item is counted from the first item of the block.
  const std::vector<std::int64_t>& items() const { return items_; }
  bool has(std::int64_t item) const { return seen_[static_cast<std::size_t>(item)] != 0; }

 private:
  const Histories& histories_;
  std::int64_t first_, begin_ = -1, end_ = -1;
  std::vector<std::uint8_t> seen_;
  std::vector<std::int64_t> items_;
};

}  // namespace recblr::torch_abi
