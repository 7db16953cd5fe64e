#include "engine/users.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>

#include "engine/problem.h"

namespace recblr::engine {
namespace {

constexpr Users::Slot kFree = Users::kNone;

// Numbers below 128 take one byte.  Every further byte has 7 bits more; the highest bit says that another one follows.
int code_length(std::uint32_t value) {
  int bytes = 1;
  for (; value >= 128; value >>= 7) ++bytes;
  return bytes;
}
unsigned char* write_code(unsigned char* at, std::uint32_t value) {
  for (; value >= 128; value >>= 7) *at++ = static_cast<unsigned char>(value | 128);
  *at++ = static_cast<unsigned char>(value);
  return at;
}
const unsigned char* read_code(const unsigned char* at, std::uint32_t& value) {
  value = *at & 127u;
  for (int shift = 7; *at++ & 128; shift += 7) value |= (*at & 127u) << shift;
  return at;
}

// How much eight codes of one byte each add to the item before them; -1 if the next eight are not that.
std::int64_t sum_of_eight(const unsigned char* at, const unsigned char* end) {
  constexpr std::uint64_t kContinue = 0x8080808080808080u, kEven = 0x00ff00ff00ff00ffu, kOnes = 0x0001000100010001u;
  if (end - at < 8) return -1;
  std::uint64_t codes;
  std::memcpy(&codes, at, sizeof codes);
  if (codes & kContinue) return -1;
  const std::uint64_t pairs = (codes & kEven) + (codes >> 8 & kEven);
  return static_cast<std::int64_t>(pairs * kOnes >> 48) + 8;
}

std::uint64_t mixed(std::uint64_t z) {  // the finaliser of SplitMix64
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

}  // namespace

std::vector<std::int32_t> distinct(std::vector<std::int32_t> items) {
  std::sort(items.begin(), items.end());
  items.erase(std::unique(items.begin(), items.end()), items.end());
  return items;
}

bool SeenItems::insert(std::int32_t item) {
  constexpr std::uint32_t kFirst = 20;
  const std::uint32_t used = block_ ? header()->used : 0;
  // A set is read up to the first number that is not below the new one, whose difference then has two parts.
  const unsigned char *at = block_ ? codes() : nullptr, *const end = at + used, *here = at;
  std::int64_t before = -1;
  std::uint32_t difference = 0;
  bool last = true;
  while (at < end) {
    here = at;
    if (const std::int64_t sum = sum_of_eight(at, end); sum >= 0 && before + sum < item) {
      before += sum;
      at += 8;
      continue;
    }
    at = read_code(at, difference);
    const std::int64_t value = before + 1 + difference;
    if (value == item) return false;
    if (value > item) {
      last = false;
      break;
    }
    before = value;
  }
  if (last) here = end;
  unsigned char fresh[2 * kMostBytes];
  unsigned char* fresh_end = write_code(fresh, static_cast<std::uint32_t>(item - before - 1));
  if (!last) fresh_end = write_code(fresh_end, static_cast<std::uint32_t>(before + 1 + difference - item - 1));
  const auto replaced = static_cast<std::uint32_t>(last ? 0 : at - here);
  const auto more = static_cast<std::uint32_t>(fresh_end - fresh) - replaced;
  const auto offset = block_ ? static_cast<std::size_t>(here - codes()) : 0;
  if (!block_ || used + more > header()->capacity) {
    const std::uint32_t capacity = block_ ? header()->capacity + header()->capacity / 4 + 8 : kFirst;
    void* const grown = std::realloc(block_, sizeof(Header) + capacity);
    if (!grown) throw std::bad_alloc();
    const bool first = !block_;
    block_ = static_cast<unsigned char*>(grown);
    if (first) *header() = {0, 0, 0};
    header()->capacity = capacity;
  }
  unsigned char* const place = codes() + offset;
  std::memmove(place + replaced + more, place + replaced, used - offset - replaced);
  std::memcpy(place, fresh, static_cast<std::size_t>(fresh_end - fresh));
  header()->used += more;
  header()->count += 1;
  return true;
}

bool SeenItems::contains(std::int32_t item) const {
  std::int64_t value = -1;
  for (const unsigned char *at = block_ ? codes() : nullptr, *const end = at + bytes(); at < end && value < item;) {
    std::uint32_t difference;
    at = read_code(at, difference);
    value += 1 + std::int64_t{difference};
  }
  return block_ && value == item;
}

std::int64_t SeenItems::bytes_of(const std::vector<std::int32_t>& items) {
  std::int64_t bytes = 0, before = -1;
  for (const std::int32_t item : items) {
    bytes += code_length(static_cast<std::uint32_t>(item - before - 1));
    before = item;
  }
  return bytes;
}

void SeenItems::assign(const std::vector<std::int32_t>& items) {
  clear();
  if (items.empty()) return;
  const auto bytes = static_cast<std::uint32_t>(bytes_of(items));
  block_ = static_cast<unsigned char*>(std::malloc(sizeof(Header) + bytes));
  if (!block_) throw std::bad_alloc();
  *header() = {bytes, bytes, static_cast<std::uint32_t>(items.size())};
  std::int64_t before = -1;
  unsigned char* at = codes();
  for (const std::int32_t item : items) {
    at = write_code(at, static_cast<std::uint32_t>(item - before - 1));
    before = item;
  }
}

void SeenItems::append_to(std::vector<std::int32_t>& items) const {
  if (!block_) return;
  std::size_t next = items.size();
  items.resize(next + header()->count);
  std::int64_t value = -1;
  for (const unsigned char *at = codes(), *const end = at + header()->used; at < end;) {
    std::uint32_t difference;
    at = read_code(at, difference);
    value += 1 + std::int64_t{difference};
    items[next++] = static_cast<std::int32_t>(value);
  }
}

void SeenItems::clear() {
  std::free(block_);
  block_ = nullptr;
}

struct Users::Chunk {
  Memory rows;
  std::vector<SeenItems> seen;
  std::vector<double> time;
  std::vector<Pending> pending;
  std::vector<History> history;

  explicit Chunk(const Layout& layout) : rows(static_cast<std::size_t>(layout.row_bytes) * kChunk), seen(kChunk) {
    if (layout.timed) time.resize(kChunk);
    if (layout.pending) pending.resize(kChunk);
    if (layout.history) history.resize(kChunk);
  }
};

Users::Users(const Layout& layout, const void* start)
    : layout_(layout),
      start_(static_cast<const char*>(start), static_cast<const char*>(start) + layout.row_bytes),
      chunks_(new std::atomic<Chunk*>[kMostChunks]()) {
  for (Shard& s : shards_) s.table.assign(16, Entry{0, kFree, 0});
}

Users::~Users() {
  for (Slot c = 0; c < kMostChunks; ++c) {
    Chunk* const chunk = chunks_[c].load(std::memory_order_relaxed);
    if (!chunk) break;
    for (SeenItems& seen : chunk->seen) seen.clear();
    delete chunk;
  }
}

std::uint64_t Users::hash(std::string_view id) {
  std::uint64_t h = 0x9e3779b97f4a7c15u + id.size();
  while (!id.empty()) {
    std::uint64_t word = 0;
    const std::size_t bytes = id.size() < sizeof word ? id.size() : sizeof word;
    std::memcpy(&word, id.data(), bytes);
    h = mixed(h ^ word) + 0x9e3779b97f4a7c15u;
    id.remove_prefix(bytes);
  }
  return mixed(h);
}

std::string_view Users::id_of(const Shard& s, const Entry& entry) {
  const char* at = s.ids.data() + entry.id;
  std::uint32_t length;
  at = reinterpret_cast<const char*>(read_code(reinterpret_cast<const unsigned char*>(at), length));
  return {at, length};
}

void Users::prefetch(Slot slot, std::int64_t soon) const {
  const Chunk& c = chunk(slot);
  const std::size_t k = slot % kChunk;
  __builtin_prefetch(&c.seen[k]);
  if (layout_.timed) __builtin_prefetch(&c.time[k]);
  const char* const row = c.rows.data() + static_cast<std::int64_t>(k) * layout_.row_bytes;
  for (; soon < layout_.row_bytes; soon += 64) __builtin_prefetch(row + soon, 1);
}

// The place of the user in the table, or the free place for a new one.
std::size_t Users::place_of(const Shard& s, std::string_view id, std::uint64_t hash, std::int64_t soon) const {
  const std::size_t mask = s.table.size() - 1;
  const auto low = static_cast<std::uint32_t>(hash);
  for (std::size_t place = low & mask;; place = (place + 1) & mask) {
    const Entry& entry = s.table[place];
    if (entry.slot == kFree) return place;
    if (entry.hash != low) continue;
    // Equal hashes are nearly always of one user, so what is kept of it is fetched while the ids are compared.
    prefetch(entry.slot, soon);
    if (id_of(s, entry) == id) return place;
  }
}

Users::Slot Users::find(std::string_view id, std::uint64_t hash, std::int64_t soon) const {
  const Shard& s = shard(hash);
  return s.table[place_of(s, id, hash, soon)].slot;
}

void Users::grow(Shard& s) {
  std::vector<Entry> larger(2 * s.table.size(), Entry{0, kFree, 0});
  const std::size_t mask = larger.size() - 1;
  for (const Entry& entry : s.table) {
    if (entry.slot == kFree) continue;
    std::size_t place = entry.hash & mask;
    while (larger[place].slot != kFree) place = (place + 1) & mask;
    larger[place] = entry;
  }
  s.table.swap(larger);
}

Users::Slot Users::take_slot() {
  const std::lock_guard<std::mutex> guard(slots_lock_);
  if (!free_.empty()) {
    const Slot slot = free_.back();
    free_.pop_back();
    return slot;
  }
  if (next_ / kChunk >= kMostChunks) throw Problem("there are too many users", "use several engines");
  if (next_ % kChunk == 0) chunks_[next_ / kChunk].store(new Chunk(layout_), std::memory_order_release);
  return next_++;
}

Users::Slot Users::create(std::string_view id, std::uint64_t hash) {
  Shard& s = shard(hash);
  unsigned char length[5];
  if (5 * (s.used + 1) > 4 * s.table.size()) grow(s);
  if (s.dead > 4096 && 2 * s.dead > s.ids.size()) drop_dead_ids(s);
  if (s.ids.size() + id.size() > std::numeric_limits<std::uint32_t>::max() - sizeof length)
    throw Problem("the ids of the users take too much memory", "use shorter ids, or several engines");
  const Slot slot = take_slot();
  const auto begin = static_cast<std::uint32_t>(s.ids.size());
  s.ids.insert(s.ids.end(), length, write_code(length, static_cast<std::uint32_t>(id.size())));
  s.ids.insert(s.ids.end(), id.begin(), id.end());
  s.table[place_of(s, id, hash)] = {static_cast<std::uint32_t>(hash), slot, begin};
  ++s.used;
  ++count_;
  reset(slot);
  return slot;
}

void Users::drop_dead_ids(Shard& s) {
  std::vector<char> kept;
  kept.reserve(s.ids.size() - s.dead);
  for (Entry& entry : s.table) {
    if (entry.slot == kFree) continue;
    const std::string_view id = id_of(s, entry);
    const char* const begin = s.ids.data() + entry.id;
    entry.id = static_cast<std::uint32_t>(kept.size());
    kept.insert(kept.end(), begin, id.data() + id.size());
  }
  s.ids.swap(kept);
  s.dead = 0;
}

void Users::erase(std::string_view id, std::uint64_t hash) {
  Shard& s = shard(hash);
  std::size_t hole = place_of(s, id, hash);
  const Slot slot = s.table[hole].slot;
  reset(slot);
  for (auto& [user, key] : s.newest_events) {
    if (user != hash) continue;
    s.events.erase(key);
    user = key = 0;
  }
  s.dead += id.size() + static_cast<std::size_t>(code_length(static_cast<std::uint32_t>(id.size())));
  // Entries behind the hole move into it, unless they would come before their own place.
  const std::size_t mask = s.table.size() - 1;
  for (std::size_t place = (hole + 1) & mask; s.table[place].slot != kFree; place = (place + 1) & mask) {
    if (((place - s.table[place].hash) & mask) < ((place - hole) & mask)) continue;
    s.table[hole] = s.table[place];
    hole = place;
  }
  s.table[hole] = {0, kFree, 0};
  --s.used;
  --count_;
  const std::lock_guard<std::mutex> guard(slots_lock_);
  free_.push_back(slot);
}

User Users::at(Slot slot) const {
  Chunk& c = chunk(slot);
  const std::size_t k = slot % kChunk;
  return {c.rows.data() + k * static_cast<std::size_t>(layout_.row_bytes), layout_.timed ? &c.time[k] : nullptr,
          layout_.pending ? &c.pending[k] : nullptr, &c.seen[k], layout_.history ? &c.history[k] : nullptr};
}

void Users::reset(Slot slot) {
  const User user = at(slot);
  if (!start_.empty()) std::memcpy(user.row, start_.data(), start_.size());
  if (user.time) *user.time = std::numeric_limits<double>::quiet_NaN();
  if (user.pending) *user.pending = {-1, 0};
  if (user.history) *user.history = {};
  seen_bytes_ -= user.seen->bytes();
  user.seen->clear();
}

void Users::insert_seen(Slot slot, std::int32_t item) {
  SeenItems& seen = *at(slot).seen;
  const std::int64_t before = seen.bytes();
  if (seen.insert(item)) seen_bytes_ += seen.bytes() - before;
}

void Users::assign_seen(Slot slot, const std::vector<std::int32_t>& items) {
  SeenItems& seen = *at(slot).seen;
  seen_bytes_ -= seen.bytes();
  seen.assign(items);
  seen_bytes_ += seen.bytes();
}

std::uint64_t Users::event_key(std::uint64_t user, std::string_view event_id) { return mixed(user) ^ hash(event_id); }

bool Users::knows_event(std::uint64_t user, std::uint64_t key) const { return shard(user).events.count(key) > 0; }

void Users::remember_event(std::uint64_t user, std::uint64_t key) {
  Shard& s = shard(user);
  if (!s.events.insert(key).second) return;
  if (s.newest_events.size() < kEventIds) {
    s.newest_events.push_back({user, key});
    return;
  }
  s.events.erase(s.newest_events[s.oldest_event][1]);
  s.newest_events[s.oldest_event] = {user, key};
  s.oldest_event = (s.oldest_event + 1) % kEventIds;
}

void Users::append_ids(int shard, std::vector<std::string>& ids) const {
  const Shard& s = shards_[static_cast<std::size_t>(shard)];
  for (const Entry& entry : s.table)
    if (entry.slot != kFree) ids.emplace_back(id_of(s, entry));
}

}  // namespace recblr::engine
