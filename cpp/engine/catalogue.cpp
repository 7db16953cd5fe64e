#include "engine/catalogue.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "engine/catalogue_scan.h"
#include "engine/problem.h"

namespace recblr::engine {
namespace {

bool better(const Scored& a, const Scored& b) {
  if (a.score > b.score || a.score < b.score) return a.score > b.score;
  if (std::isnan(a.score) != std::isnan(b.score)) return std::isnan(b.score);
  return a.item < b.item;
}

bool contains(const std::int32_t* list, std::int64_t count, std::int32_t item) {
  return std::binary_search(list, list + count, item);
}

}  // namespace

Catalogue::Catalogue(const float* rows, std::int64_t count, std::int64_t width, Precision precision)
    : rows_(rows), count_(count), width_(width), precision_(precision), retired_(static_cast<std::size_t>(count)) {}

const float* Catalogue::row(std::int32_t item) const {
  return item < count_ ? rows_ + item * width_ : appended_.data() + (item - count_) * width_;
}

void Catalogue::append(const float* rows, std::int64_t count) {
  if (count > std::numeric_limits<std::int32_t>::max() - size())
    throw Problem("The catalogue would hold more than 2147483647 items", "add fewer items");
  appended_.insert(appended_.end(), rows, rows + count * width_);
  retired_.resize(retired_.size() + static_cast<std::size_t>(count));
}

void Catalogue::retire(std::int32_t item) { retired_[static_cast<std::size_t>(item)] = true; }

void Catalogue::scores(const float* vector, const std::int32_t* items, std::int64_t count, float* out) const {
  for (std::int64_t i = 0; i < count; ++i) {
    const bool base = items[i] < count_;
    compute(RowScores{base ? rows_ : appended_.data(), width_, vector, items, base ? 0 : std::int32_t(count_), out},
            Units{i, i + 1});
  }
}

void Catalogue::best(const Query* queries, std::int64_t count, std::int64_t k, Scored* out, std::int64_t* found,
                     Pool& pool) const {
  pool.run(count, [&](std::int64_t n) {
    const Query& q = queries[n];
    std::vector<Scored> all;
    for (std::int32_t item = 0; item < size(); ++item) {
      const bool seen = contains(q.seen, q.num_seen, item);
      if (retired(item) || (seen && q.mask_seen) || contains(q.excluded, q.num_excluded, item) ||
          (q.allowed && !contains(q.allowed, q.num_allowed, item)))
        continue;
      Scored s{item, 0};
      scores(q.vector, &item, 1, &s.score);
      if (seen) s.score += q.seen_bias;
      all.push_back(s);
    }
    found[n] = std::min<std::int64_t>(k, static_cast<std::int64_t>(all.size()));
    std::partial_sort(all.begin(), all.begin() + found[n], all.end(), better);
    std::copy_n(all.begin(), found[n], out + n * k);
  });
}

}  // namespace recblr::engine
