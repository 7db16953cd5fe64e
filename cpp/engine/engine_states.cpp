// A user as bytes: Engine::state and Engine::set_state.  docs/engine.md describes the layout.
#include <cstring>
#include <shared_mutex>
#include <string>
#include <utility>
#include <vector>

#include "engine/engine.h"

namespace recblr::engine {
namespace {

constexpr char kMagic[8] = {'r', 'e', 'c', 'b', 'l', 'r', 'S', 'T'};
constexpr std::uint32_t kStateFormat = 1;
enum Flags : std::uint32_t { kHalf = 1, kTimed = 2, kPending = 4, kHistory = 8, kWindowed = 16 };

struct StateHeader {
  char magic[8];
  std::uint32_t format, flags;
  char digest[32];
  double time;
  std::int32_t item;
  float gap;
  std::int64_t row_bytes, seen, events;
};
static_assert(sizeof(StateHeader) == 88, "the layout is documented");

std::uint64_t checksum(const char* bytes, std::size_t size) {
  std::uint64_t sum = 0xcbf29ce484222325u;  // FNV-1a
  for (std::size_t i = 0; i < size; ++i) sum = (sum ^ static_cast<unsigned char>(bytes[i])) * 0x100000001b3u;
  return sum;
}

template <typename T>
void write(std::string& bytes, const T* from, std::size_t count) {
  if (count) bytes.append(reinterpret_cast<const char*>(from), count * sizeof(T));
}
template <typename T>
std::vector<T> read(const char*& at, std::int64_t count) {
  std::vector<T> values(static_cast<std::size_t>(count));
  if (count) std::memcpy(values.data(), at, values.size() * sizeof(T));
  at += values.size() * sizeof(T);
  return values;
}

}  // namespace

std::string Engine::state(const std::string& user) {
  const std::uint64_t hash = Users::hash(user);
  const ShardLocks lock(users_, Users::shard_of(hash));
  const Users::Slot slot = users_.find(user, hash);
  if (slot == Users::kNone) throw unknown_user(user);
  const User kept = users_.at(slot);
  std::vector<std::int32_t> seen;
  kept.seen->append_to(seen);
  StateHeader header{};
  std::memcpy(header.magic, kMagic, sizeof kMagic);
  header.format = kStateFormat;
  header.flags = (options_.half_states ? kHalf : 0u) | (kept.time ? kTimed : 0u) | (kept.pending ? kPending : 0u) |
                 (kept.history ? kHistory : 0u) | (windowed_ ? kWindowed : 0u);
  std::memcpy(header.digest, facts_.digest.data(), sizeof header.digest);
  if (kept.time) header.time = *kept.time;
  if (kept.pending) header.item = kept.pending->item, header.gap = kept.pending->gap;
  header.row_bytes = row_bytes_;
  header.seen = static_cast<std::int64_t>(seen.size());
  header.events = kept.history ? static_cast<std::int64_t>(kept.history->items.size()) : 0;
  std::string bytes(reinterpret_cast<const char*>(&header), sizeof header);
  write(bytes, kept.row, static_cast<std::size_t>(row_bytes_));
  write(bytes, seen.data(), seen.size());
  if (kept.history) {
    write(bytes, kept.history->items.data(), kept.history->items.size());
    write(bytes, kept.history->times.data(), kept.history->times.size());
  }
  const std::uint64_t sum = checksum(bytes.data(), bytes.size());
  write(bytes, &sum, 1);
  return bytes;
}

void Engine::set_state(const std::string& user, const std::string& bytes) {
  const auto damaged = [&](const std::string& why) {
    return Problem("the state of user " + quoted(user) + " is damaged: " + why, "rebuild it from the user's history");
  };
  StateHeader header;
  std::uint64_t sum;
  if (bytes.size() < sizeof header + sizeof sum) throw damaged("it is too short");
  std::memcpy(&header, bytes.data(), sizeof header);
  if (std::memcmp(header.magic, kMagic, sizeof kMagic) != 0) throw damaged("it does not begin as a state does");
  std::memcpy(&sum, bytes.data() + bytes.size() - sizeof sum, sizeof sum);
  if (sum != checksum(bytes.data(), bytes.size() - sizeof sum)) throw damaged("its checksum does not match");
  if (header.format != kStateFormat)
    throw Problem("the state of user " + quoted(user) + " has the format " + std::to_string(header.format) +
                      ", but this recblr reads only format " + std::to_string(kStateFormat),
                  "install a later recblr, or rebuild it from the user's history");
  if (std::memcmp(header.digest, facts_.digest.data(), sizeof header.digest) != 0)
    throw Problem("the state of user " + quoted(user) + " is of another model",
                  "rebuild it from the user's history with this model");
  const std::uint32_t flags = (options_.half_states ? kHalf : 0u) | (uses_ != Uses::none ? kTimed : 0u) |
                              (uses_ == Uses::request && !windowed_ ? kPending : 0u) |
                              (options_.history ? kHistory : 0u) | (windowed_ ? kWindowed : 0u);
  if (header.flags != flags)
    throw Problem("the state of user " + quoted(user) + " was written by an engine with other states= or history=",
                  "load the engine with the same options");
  const std::int64_t event_bytes = 4 + (uses_ != Uses::none ? 8 : 0);
  const auto rest = static_cast<std::int64_t>(bytes.size() - sizeof header - sizeof sum) - row_bytes_;
  if (header.row_bytes != row_bytes_ || header.seen < 0 || header.events < 0 || header.seen > rest / 4 ||
      header.events > rest / event_bytes || rest != 4 * header.seen + event_bytes * header.events)
    throw damaged("its length does not match its header");
  const char* at = bytes.data() + sizeof header;
  const char* const row = at;
  at += row_bytes_;
  const auto seen = read<std::int32_t>(at, header.seen);
  History history;
  history.items = read<std::int32_t>(at, header.events);
  if (uses_ != Uses::none) history.times = read<double>(at, header.events);

  const std::shared_lock items(items_lock_);
  const auto legal = [&](std::int32_t item) { return item >= 0 && item < catalogue_.size(); };
  for (std::size_t i = 0; i < seen.size(); ++i)
    if (!legal(seen[i]) || (i && seen[i] <= seen[i - 1])) throw damaged("its seen items are not items of the model");
  for (const std::int32_t item : history.items)
    if (!legal(item)) throw damaged("its history holds an item that the model does not have");
  if (header.flags & kPending && !legal(header.item)) throw damaged("its last event is not an item of the model");
  const std::uint64_t hash = Users::hash(user);
  const ShardLocks lock(users_, Users::shard_of(hash));
  Users::Slot slot = users_.find(user, hash);
  Users::Room room(users_);
  if (options_.seen_budget >= 0) {
    const std::int64_t freed = slot == Users::kNone ? 0 : users_.at(slot).seen->bytes();
    check_seen_budget(room.take(SeenItems::bytes_of(seen) - freed, options_.seen_budget), header.seen);
  }
  if (slot == Users::kNone) slot = users_.create(user, hash);
  users_.reset(slot);
  const User kept = users_.at(slot);
  if (row_bytes_) std::memcpy(kept.row, row, static_cast<std::size_t>(row_bytes_));
  users_.assign_seen(slot, seen);
  if (kept.time) *kept.time = header.time;
  if (kept.pending) *kept.pending = {header.item, header.gap};
  if (kept.history) *kept.history = std::move(history);
}

}  // namespace recblr::engine
