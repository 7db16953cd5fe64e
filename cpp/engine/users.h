// What the engine keeps of users: states, seen items and, if asked for, histories.
//
// Users are divided into shards by their ids.  Each shard has a lock, which guards its users.  Several locks are taken
// in the order of the shards.
#pragma once
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "engine/memory.h"

namespace recblr::engine {

// These items, sorted and without repeats.
std::vector<std::int32_t> distinct(std::vector<std::int32_t> items);

// A set of item numbers.  It keeps the sorted numbers as differences, each in as few bytes as it needs: about one byte
// an item for users with many items.
class SeenItems {
 public:
  bool insert(std::int32_t item);                       // false: the set has it
  void assign(const std::vector<std::int32_t>& items);  // sorted and distinct
  bool contains(std::int32_t item) const;
  void append_to(std::vector<std::int32_t>& items) const;  // sorted
  std::int64_t count() const { return block_ ? header()->count : 0; }
  std::int64_t bytes() const { return block_ ? header()->used : 0; }
  static std::int64_t bytes_of(const std::vector<std::int32_t>& items);  // of a set of these sorted, distinct items
  static constexpr std::int64_t kMostBytes = 5;                          // more that one item takes
  void clear();
  // Starts to read the beginning of the set.
  void prefetch() const {
    for (int line = 0; block_ && line < 4; ++line) __builtin_prefetch(block_ + 64 * line, 1);
  }

 private:
  struct Header {
    std::uint32_t capacity, used, count;
  };
  Header* header() const { return reinterpret_cast<Header*>(block_); }
  unsigned char* codes() const { return block_ + sizeof(Header); }
  unsigned char* block_ = nullptr;
};

// An event that is not in the state yet, because the model must know when the next one comes.  item -1: there is none.
struct Pending {
  std::int32_t item;
  float gap;
};

struct History {
  std::vector<std::int32_t> items;
  std::vector<double> times;  // empty for a model that knows no time, if no time was given
};

// Pointers to all that is kept of one user.  time and pending are null if the model needs none, and history if none are
// kept.
struct User {
  char* row;
  double* time;  // of the last event; NaN if there is none
  Pending* pending;
  SeenItems* seen;
  History* history;
};

class Users {
 public:
  using Slot = std::uint32_t;
  static constexpr Slot kNone = ~Slot{0};
  static constexpr int kShards = 64;
  static constexpr std::int64_t kNothing = std::numeric_limits<std::int64_t>::max();

  struct Layout {
    std::int64_t row_bytes;
    bool timed, pending, history;
  };

  // start: the row of a new user, (row_bytes).
  Users(const Layout& layout, const void* start);
  ~Users();
  Users(const Users&) = delete;
  Users& operator=(const Users&) = delete;

  static std::uint64_t hash(std::string_view id);
  static int shard_of(std::uint64_t hash) { return static_cast<int>(hash >> 58); }
  std::mutex& lock_of(int shard) { return shards_[static_cast<std::size_t>(shard)].lock; }

  // The caller holds the lock of the user's shard.
  // Starts to read what is kept of the user: of the row, the bytes from `soon` on.
  Slot find(std::string_view id, std::uint64_t hash, std::int64_t soon = kNothing) const;
  Slot create(std::string_view id, std::uint64_t hash);  // of a user who does not exist
  void erase(std::string_view id, std::uint64_t hash);   // of a user who exists
  User at(Slot slot) const;
  void reset(Slot slot);  // to a user without events
  void insert_seen(Slot slot, std::int32_t item);
  void assign_seen(Slot slot, const std::vector<std::int32_t>& items);  // sorted and distinct
  // Events that have ids, by the hash of their user.  Each shard remembers its newest kEventIds until their users are
  // erased.
  static std::uint64_t event_key(std::uint64_t user, std::string_view event_id);
  bool knows_event(std::uint64_t user, std::uint64_t key) const;
  void remember_event(std::uint64_t user, std::uint64_t key);
  static constexpr std::size_t kEventIds = 16384;

  std::int64_t count() const { return count_.load(std::memory_order_relaxed); }
  std::int64_t seen_bytes() const { return seen_bytes_.load(std::memory_order_relaxed); }

  // Room for seen items that a call is about to add, as long as this lives.
  class Room {
   public:
    explicit Room(Users& users) : users_(users) {}
    ~Room() { users_.promised_ -= bytes_; }
    Room(const Room&) = delete;
    Room& operator=(const Room&) = delete;
    // Whether all seen items and all that calls were promised fit into `budget` bytes, with these.
    bool take(std::int64_t bytes, std::int64_t budget) {
      users_.promised_ += bytes - bytes_;
      bytes_ = bytes;
      return bytes <= 0 || users_.seen_bytes_ + users_.promised_ <= budget;
    }

   private:
    Users& users_;
    std::int64_t bytes_ = 0;
  };

  // All ids of a shard, whose lock the caller holds.
  void append_ids(int shard, std::vector<std::string>& ids) const;

 private:
  static constexpr Slot kChunk = 4096, kMostChunks = 1 << 16;
  struct Chunk;
  struct Entry {
    std::uint32_t hash;
    Slot slot;
    std::uint32_t id;  // where the id is in its shard
  };
  struct Shard {
    mutable std::mutex lock;
    std::vector<Entry> table;  // open addressing; its size is a power of two
    std::size_t used = 0;
    std::vector<char> ids;  // one after another, each with its length before it
    std::size_t dead = 0;   // bytes of ids of erased users
    std::unordered_set<std::uint64_t> events;
    std::vector<std::array<std::uint64_t, 2>> newest_events;  // the user's hash and the key
    std::size_t oldest_event = 0;
  };

  Shard& shard(std::uint64_t hash) { return shards_[static_cast<std::size_t>(shard_of(hash))]; }
  const Shard& shard(std::uint64_t hash) const { return shards_[static_cast<std::size_t>(shard_of(hash))]; }
  Chunk& chunk(Slot slot) const { return *chunks_[slot / kChunk].load(std::memory_order_acquire); }
  static std::string_view id_of(const Shard& s, const Entry& entry);
  std::size_t place_of(const Shard& s, std::string_view id, std::uint64_t hash, std::int64_t soon = kNothing) const;
  void prefetch(Slot slot, std::int64_t soon) const;
  void grow(Shard& s);
  void drop_dead_ids(Shard& s);
  Slot take_slot();

  Layout layout_;
  std::vector<char> start_;
  std::array<Shard, kShards> shards_;
  std::unique_ptr<std::atomic<Chunk*>[]> chunks_;
  std::mutex slots_lock_;
  std::vector<Slot> free_;
  Slot next_ = 0;
  std::atomic<std::int64_t> count_{0}, seen_bytes_{0}, promised_{0};
};

// Holds the locks of some shards, taken in their order, so that two threads never wait for each other.
class ShardLocks {
 public:
  ShardLocks(Users& users, std::uint64_t shards) : users_(users), shards_(shards) {
    for (int s = 0; s < Users::kShards; ++s)
      if (has(s)) users_.lock_of(s).lock();
  }
  ShardLocks(Users& users, int shard) : ShardLocks(users, std::uint64_t{1} << shard) {}
  ~ShardLocks() {
    for (int s = 0; s < Users::kShards; ++s)
      if (has(s)) users_.lock_of(s).unlock();
  }
  ShardLocks(const ShardLocks&) = delete;
  ShardLocks& operator=(const ShardLocks&) = delete;

 private:
  bool has(int shard) const { return shards_ >> shard & 1; }
  Users& users_;
  std::uint64_t shards_;
};

}  // namespace recblr::engine
