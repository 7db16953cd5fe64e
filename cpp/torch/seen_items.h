// What a row's user already has: the distinct items of a history up to the row's event.
#pragma once
#include <algorithm>
#include <cstdint>
#include <vector>

namespace recblr::torch_abi {

// Of packed histories, each row's: row r's user has items[begin[r], end[r]).
struct Histories {
  std::vector<std::int64_t> items, begin, end;
};

// Those that lie in the catalogue's block [first, first + count), for one row after another.  Rows of one history in
// the order of their events cost what is new to each.
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
  // Counted from the block's first.
  const std::vector<std::int64_t>& items() const { return items_; }
  bool has(std::int64_t item) const { return seen_[static_cast<std::size_t>(item)] != 0; }

 private:
  const Histories& histories_;
  std::int64_t first_, begin_ = -1, end_ = -1;
  std::vector<std::uint8_t> seen_;
  std::vector<std::int64_t> items_;
};

}  // namespace recblr::torch_abi
