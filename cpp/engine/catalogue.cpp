#include "engine/catalogue.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

#include "engine/problem.h"

namespace recblr::engine {
namespace {

constexpr std::int64_t kTogether = 64;                            // queries that share one pass over the items
constexpr std::int64_t kFewestChunks = 8;                         // that are worth another thread
constexpr float kNone = -std::numeric_limits<float>::infinity();  // below which no score lies

unsigned char* bytes_of(const Memory& memory) { return reinterpret_cast<unsigned char*>(memory.data()); }

std::int64_t divided(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

// The order of an answer: larger scores first, then smaller items; NaN last.
struct Better {
  bool operator()(const Scored& a, const Scored& b) const {
    if (a.score > b.score) return true;
    if (a.score < b.score) return false;
    if (std::isnan(a.score) != std::isnan(b.score)) return std::isnan(b.score);
    return a.item < b.item;
  }
};

bool contains(const std::int32_t* list, std::int64_t count, std::int32_t item) {
  return std::binary_search(list, list + count, item);
}
bool seen(const Query& q, std::int32_t item) { return contains(q.seen, q.num_seen, item); }
bool excluded(const Query& q, std::int32_t item) { return contains(q.excluded, q.num_excluded, item); }

// The best k of the items that were added.
class Top {
 public:
  void clear(std::int64_t k) { items_.clear(), k_ = k, cut_ = 0; }

  // Adds those items whose scores are not below `least`.
  void add(const std::int32_t* items, const float* scores, std::int64_t count, float least) {
    std::size_t n = items_.size();
    items_.resize(n + static_cast<std::size_t>(count));
    for (std::int64_t i = 0; i < count; ++i) {
      items_[n].item = items[i], items_[n].score = scores[i];
      n += !(scores[i] < least);
    }
    items_.resize(n);
  }

  // Forgets all but the best k.  Returns whether this found a k-th best that is new.
  bool cut() {
    const std::size_t k = static_cast<std::size_t>(k_);
    if (items_.size() < std::max(k, cut_ + 1)) return false;
    std::nth_element(items_.begin(), items_.begin() + (k_ - 1), items_.end(), Better());
    items_.resize(k);
    cut_ = k;
    return true;
  }
  Scored last() const { return items_.back(); }  // the k-th best, after cut()

  // The items, the best k first.
  const std::vector<Scored>& sorted() {
    const auto end = items_.begin() + std::min(k_, static_cast<std::int64_t>(items_.size()));
    std::partial_sort(items_.begin(), end, items_.end(), Better());
    items_.erase(end, items_.end());
    return items_;
  }

 private:
  std::vector<Scored> items_;
  std::int64_t k_ = 0;
  std::size_t cut_ = 0;  // the number of items after the last cut
};

// The threads that search for one query tell each other how good the k-th best is.
using Shared = std::atomic<float>;

void raise(Shared& shared, float score) {
  float known = shared.load(std::memory_order_relaxed);
  while (known < score && !shared.compare_exchange_weak(known, score, std::memory_order_relaxed)) {
  }
}

}  // namespace

Table Catalogue::table(const Part& part) const {
  return {part.rows, bytes_of(part.copy), part.count, width_, &part == &base_ ? 0 : std::int32_t(base_.count),
          precision_};
}

// Makes the copies of the items from number `from` of the part on.
void Catalogue::pack(Part& part, std::int64_t from) {
  const Units blocks{from / kBlock, divided(part.count, kBlock)};
  part.retired.resize(static_cast<std::size_t>(blocks.end));
  for (std::int64_t b = blocks.begin; b < blocks.end; ++b) {
    std::uint64_t& retired = part.retired[static_cast<std::size_t>(b)];
    const std::int64_t before = from - b * kBlock, left = part.count - b * kBlock;
    retired &= before > 0 ? (std::uint64_t{1} << before) - 1 : 0;
    if (left < kBlock) retired |= ~std::uint64_t{0} << left;
  }
  if (precision_ != Precision::float32) compute(Pack{table(part), bytes_of(part.copy), &max_norm_}, blocks);
}

Catalogue::Catalogue(const float* rows, std::int64_t count, std::int64_t width, Precision precision)
    : width_(width), precision_(width > kWidest ? Precision::float32 : precision) {
  base_.rows = rows;
  base_.count = count;
  base_.copy = Memory(static_cast<std::size_t>(copy_size(count)));
  pack(base_, 0);
}

std::int64_t Catalogue::copy_size(std::int64_t count) const {
  return precision_ == Precision::float32 ? 0 : divided(count, kBlock) * block_bytes(precision_, width_);
}

void Catalogue::append(const float* rows, std::int64_t count) {
  if (count > std::numeric_limits<std::int32_t>::max() - size())
    throw Problem("The catalogue would have more than 2147483647 items", "add fewer items");
  const std::int64_t before = appended_.count, after = before + count;
  if (copy_size(after) > static_cast<std::int64_t>(appended_.copy.size())) {
    Memory larger(static_cast<std::size_t>(copy_size(after + before / 2)));
    if (before > 0) std::memcpy(larger.data(), appended_.copy.data(), static_cast<std::size_t>(copy_size(before)));
    appended_.copy = std::move(larger);
  }
  appended_.retired.reserve(static_cast<std::size_t>(divided(after, kBlock)));
  appended_rows_.insert(appended_rows_.end(), rows, rows + count * width_);
  appended_.rows = appended_rows_.data();
  appended_.count = after;
  pack(appended_, before);
}

void Catalogue::retire(std::int32_t item) {
  Part& part = item < base_.count ? base_ : appended_;
  const std::int64_t index = &part == &base_ ? item : item - base_.count;
  part.retired[static_cast<std::size_t>(index / kBlock)] |= std::uint64_t{1} << index % kBlock;
}

bool Catalogue::retired(std::int32_t item) const {
  const Part& part = item < base_.count ? base_ : appended_;
  const std::int64_t index = &part == &base_ ? item : item - base_.count;
  return part.retired[static_cast<std::size_t>(index / kBlock)] >> index % kBlock & 1;
}

void Catalogue::scores(const float* vector, const std::int32_t* items, std::int64_t count, float* out) const {
  compute(RowScores{base_.rows, appended_.rows, base_.count, width_, vector, items, out}, Units{0, count});
}

// --- the search ------------------------------------------------------------------------------------------------------

struct Catalogue::Search {
  struct One {  // what is known of one query
    Top top;
    Probe probe;
    float least = kNone;  // an item with a lower score cannot be in the answer
  };
  std::vector<One> queries;
  std::vector<std::int32_t> words, survivors;
  std::vector<float> scores;
  std::vector<Scanned> scanned;
  std::vector<std::int64_t> which;  // the queries of `scanned`
  std::int64_t num_survivors = 0;   // in the run, of all queries

  // Finds the best items of the chunks [begin, end) for some queries.  The first range also has the items that are
  // scored without a scan. shared (count): null if nobody else searches for these queries.
  void run(const Catalogue& c, const Query* q, std::int64_t count, std::int64_t k, std::int64_t begin, std::int64_t end,
           Shared* shared) {
    const std::int64_t room = words_of(c.width_);
    if (std::int64_t(queries.size()) < count) queries.resize(static_cast<std::size_t>(count));
    if (std::int64_t(words.size()) < count * room) words.resize(static_cast<std::size_t>(count * room));
    if (std::int64_t(survivors.size()) < count * kChunk) survivors.resize(static_cast<std::size_t>(count * kChunk));
    scores.resize(kChunk);
    num_survivors = 0;
    bool any = false;
    for (std::int64_t u = 0; u < count; ++u) {
      One& one = queries[static_cast<std::size_t>(u)];
      one.top.clear(k);
      one.least = kNone;
      if (begin == 0) score_listed(c, q[u], one);
      if (q[u].allowed) continue;
      any = true;
      one.probe.vector = q[u].vector;
      one.probe.words = words.data() + u * room;
      compute(Prepare{&one.probe, c.precision_, c.width_, c.max_norm_}, Units{0, 1});
    }
    for (std::int64_t chunk = begin; any && chunk < end; ++chunk) scan(c, q, count, k, chunk, shared);
  }

  // The items that the caller names: those that are allowed, or those that were seen, if a bias is added to them.
  void score_listed(const Catalogue& c, const Query& q, One& one) {
    if (!q.allowed && q.mask_seen) return;
    const std::int32_t* list = q.allowed ? q.allowed : q.seen;
    const std::int64_t size = q.allowed ? q.num_allowed : q.num_seen;
    for (std::int64_t i = 0; i < size;) {
      std::int64_t n = 0;
      for (; i < size && n < kChunk; ++i)
        if (!c.retired(list[i]) && !excluded(q, list[i]) && !(q.mask_seen && seen(q, list[i])))
          survivors[n++] = list[i];
      c.scores(q.vector, survivors.data(), n, scores.data());
      for (std::int64_t j = 0; j < n; ++j)
        if (seen(q, survivors[j])) scores[j] += q.seen_bias;
      one.top.add(survivors.data(), scores.data(), n, kNone);
      if (q.allowed) one.top.cut();
    }
  }

  // Finds the best items of a chunk for all queries that are not limited to a list.
  void scan(const Catalogue& c, const Query* q, std::int64_t count, std::int64_t k, std::int64_t chunk,
            Shared* shared) {
    const std::int64_t chunks = divided(c.base_.count, kChunk);
    const Part& part = chunk < chunks ? c.base_ : c.appended_;
    const std::int64_t from = (chunk < chunks ? chunk : chunk - chunks) * kChunk;
    const Units blocks{from / kBlock, divided(std::min(from + kChunk, part.count), kBlock)};
    const Table table = c.table(part);
    Table rows = table;
    rows.precision = Precision::float32;
    scanned.clear(), which.clear();
    for (std::int64_t u = 0; u < count; ++u) {
      if (q[u].allowed) continue;
      One& one = queries[static_cast<std::size_t>(u)];
      learn(one, table.first + from, shared ? shared + u : nullptr);
      Scanned s{&one.probe, one.least, survivors.data() + u * kChunk, 0};
      const Table& scannable = one.probe.usable ? table : rows;
      if (one.least == kNone) {  // no k-th best yet
        std::uint64_t left_out[kChunk / kBlock];
        mark_left_out(q[u], part, table.first, blocks, left_out);
        compute(FirstScan{scannable, &s, left_out, k}, blocks);
        collect(c, q[u], one, s);
        continue;
      }
      if (one.probe.usable) {
        scanned.push_back(s), which.push_back(u);
      } else {
        compute(Scan{rows, &s, 1}, blocks);
        drop_left_out(c, q[u], s);
        collect(c, q[u], one, s);
      }
    }
    if (scanned.empty()) return;
    compute(Scan{table, scanned.data(), std::int64_t(scanned.size())}, blocks);
    for (std::size_t i = 0; i < scanned.size(); ++i) {
      if (scanned[i].num_survivors == 0) continue;
      const std::int64_t u = which[i];
      drop_left_out(c, q[u], scanned[i]);
      collect(c, q[u], queries[static_cast<std::size_t>(u)], scanned[i]);
    }
  }

  static void mark_left_out(const Query& q, const Part& part, std::int32_t first, const Units& blocks,
                            std::uint64_t* left_out) {
    std::copy(part.retired.begin() + blocks.begin, part.retired.begin() + blocks.end, left_out);
    const std::int64_t begin = first + blocks.begin * kBlock, end = first + blocks.end * kBlock;
    const auto mark = [&](const std::int32_t* list, std::int64_t count) {
      const std::int32_t* stop = list + count;
      if (begin > 0) list = std::lower_bound(list, stop, begin);
      // A word is put together in a register: each read of a word just written would wait for the write.
      std::uint64_t marks[kChunk / kBlock] = {}, word = 0;
      std::uint64_t block = 0;
      for (; list < stop && *list < end; ++list) {
        const std::uint64_t i = static_cast<std::uint64_t>(*list - begin), mine = i / kBlock;
        word &= -static_cast<std::uint64_t>(mine == block);  // no branch: it would often be predicted wrongly
        word |= std::uint64_t{1} << i % kBlock;
        marks[block = mine] = word;
      }
      for (std::int64_t b = 0; b < blocks.end - blocks.begin; ++b) left_out[b] |= marks[b];
    };
    if (q.num_seen > 0) mark(q.seen, q.num_seen);
    if (q.num_excluded > 0) mark(q.excluded, q.num_excluded);
  }

  static void drop_left_out(const Catalogue& c, const Query& q, Scanned& s) {
    std::int64_t n = 0;
    for (std::int64_t i = 0; i < s.num_survivors; ++i) {
      const std::int32_t item = s.survivors[i];
      if (!c.retired(item) && !seen(q, item) && !excluded(q, item)) s.survivors[n++] = item;
    }
    s.num_survivors = n;
  }

  void collect(const Catalogue& c, const Query& q, One& one, const Scanned& s) {
    c.scores(q.vector, s.survivors, s.num_survivors, scores.data());
    one.top.add(s.survivors, scores.data(), s.num_survivors, one.least);
    num_survivors += s.num_survivors;
  }

  // What the items so far, here and in other threads, say about those from number `next` on.
  static void learn(One& one, std::int64_t next, Shared* shared) {
    if (one.top.cut() && !std::isnan(one.top.last().score)) {
      const Scored last = one.top.last();
      // An item with an equal score and a larger number than the k-th best is too late.
      const float least = last.item < next ? std::nextafter(last.score, -kNone) : last.score;
      one.least = std::max(one.least, least);
      if (shared) raise(*shared, last.score);
    }
    if (shared) one.least = std::max(one.least, shared->load(std::memory_order_relaxed));
  }
};

void Catalogue::best(const Query* queries, std::int64_t count, std::int64_t k, Scored* out, std::int64_t* found,
                     Pool& pool) const {
  search(queries, count, k, out, found, pool);
}

std::int64_t Catalogue::survivors(const Query* queries, std::int64_t count, std::int64_t k, Pool& pool) const {
  std::vector<Scored> out(static_cast<std::size_t>(count * k));
  std::vector<std::int64_t> found(static_cast<std::size_t>(count));
  return search(queries, count, k, out.data(), found.data(), pool);
}

// Finds the best items.  Returns how many items survived the scans.
std::int64_t Catalogue::search(const Query* queries, std::int64_t count, std::int64_t k, Scored* out,
                               std::int64_t* found, Pool& pool) const {
  if (count == 0) return 0;
  const std::int64_t chunks = divided(base_.count, kChunk) + divided(appended_.count, kChunk);
  const std::int64_t threads = pool.threads();
  // Few queries: several threads search for each of them, in different items.  Many: each thread has its own queries.
  const bool divide = threads > 1 && chunks >= 2 * kFewestChunks && count < 2 * threads * kTogether;
  const std::int64_t ranges = divide ? std::min(4 * threads, chunks / kFewestChunks) : 1;
  const std::int64_t most = divide || threads == 1 ? kTogether : divided(count, 4 * threads);
  const std::int64_t group = std::min(most, kTogether), groups = divided(count, group);

  const auto put = [&](std::int64_t n, const std::vector<Scored>& answer) {
    found[n] = static_cast<std::int64_t>(answer.size());
    std::copy(answer.begin(), answer.end(), out + n * k);
  };
  const std::size_t parts = divide ? static_cast<std::size_t>(count * ranges) : 0;
  std::vector<std::vector<Scored>> answers(parts);
  std::vector<Shared> shared(divide ? static_cast<std::size_t>(count) : 0);
  for (Shared& s : shared) s.store(kNone, std::memory_order_relaxed);
  std::atomic<std::int64_t> num_survivors{0};

  pool.run(groups * ranges, [&](std::int64_t part) {
    thread_local Search search;
    const std::int64_t first = part / ranges * group, range = part % ranges, size = std::min(group, count - first);
    search.run(*this, queries + first, size, k, chunks * range / ranges, chunks * (range + 1) / ranges,
               divide ? shared.data() + first : nullptr);
    num_survivors += search.num_survivors;
    for (std::int64_t u = 0; u < size; ++u) {
      const std::vector<Scored>& answer = search.queries[static_cast<std::size_t>(u)].top.sorted();
      if (divide) {
        answers[static_cast<std::size_t>((first + u) * ranges + range)] = answer;
      } else {
        put(first + u, answer);
      }
    }
  });
  if (!divide) return num_survivors;
  Top top;
  for (std::int64_t n = 0; n < count; ++n) {
    top.clear(k);
    for (std::int64_t range = 0; range < ranges; ++range)
      for (const Scored& s : answers[static_cast<std::size_t>(n * ranges + range)])
        top.add(&s.item, &s.score, 1, kNone);
    put(n, top.sorted());
  }
  return num_survivors;
}

}  // namespace recblr::engine
