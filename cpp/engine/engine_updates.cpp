// Takes events in: update, update_many and rebuild.
#include <algorithm>
#include <functional>
#include <limits>
#include <mutex>
#include <string>
#include <string_view>
#include <type_traits>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "engine/engine.h"

#include "core/kernel.h"  // last, because it turns declarations of kernels into definitions

namespace recblr::engine {
namespace {

#include "core/conversions-inl.h"

constexpr std::size_t kEventsAtOnce = 256;

}  // namespace

// The events of one update_many().  The caller holds the locks of their users.
struct Engine::Batch {
  explicit Batch(const std::vector<Update>& all)
      : events(all), hashes(all.size()), keys(all.size()), slots(all.size(), Users::kNone) {
    chosen.reserve(all.size());
  }
  const std::vector<Update>& events;
  std::vector<std::uint64_t> hashes, keys;  // of the users and of the event ids
  std::vector<Users::Slot> slots;
  std::vector<std::size_t> chosen;  // the events that count
};

// Takes an event into what is kept of a user.  Returns whether an event is to be passed through the model: with a time
// of requests, that is the event before, if there is one.
template <typename S>
bool Engine::admit(const User& user, std::int32_t item, double time, Event<S>& event) const {
  auto* const state = reinterpret_cast<S*>(user.row);
  const float past = user.time ? gap(*user.time, time) : 0;
  if (user.time) *user.time = time;
  if (!user.pending) {
    event = {catalogue_.row(item), past, 0, state, nullptr};
    return !windowed_;
  }
  const Pending before = *user.pending;
  *user.pending = {item, past};
  if (before.item < 0) return false;
  event = {catalogue_.row(before.item), before.gap, past, state, nullptr};
  return true;
}

template <typename S>
void Engine::keep_hidden(const User& user, const float* hidden) const {
  auto* const to = reinterpret_cast<S*>(user.row) + weights().state_size();
  for (std::int64_t c = 0; c < weights().width; ++c) put(to[c], hidden[c]);
}

// Takes an event into all that is kept of a user whose lock the caller holds.  Returns what admit() returns.
template <typename S>
bool Engine::take_in(const Update& e, Users::Slot slot, Event<S>& event) {
  const User user = users_.at(slot);
  const bool passes = admit(user, e.item, e.time, event);
  users_.insert_seen(slot, e.item);
  if (user.history) {
    user.history->items.push_back(e.item);
    if (user.time) user.history->times.push_back(e.time);
  }
  return passes;
}

// Takes one event in, of a user whose lock the caller holds.
template <typename S>
void Engine::take_one(const Update& e, Users::Slot slot) {
  thread_local std::vector<float> hidden;
  Event<S> event;
  if (!take_in(e, slot, event)) return;
  if (uses_ != Uses::request) {
    hidden.resize(static_cast<std::size_t>(weights().width));
    event.hidden = hidden.data();
  }
  pass(weights(), &event, 1);
  if (event.hidden) keep_hidden<S>(users_.at(slot), hidden.data());
}

// Takes some events of a batch in.
template <typename S>
void Engine::take(const Batch& batch, const std::vector<std::size_t>& chosen) {
  const bool answers = uses_ != Uses::request && !windowed_;
  const auto width = static_cast<std::size_t>(weights().width);
  std::vector<Event<S>> passed;
  std::vector<float> hidden;
  std::vector<std::pair<Users::Slot, std::size_t>> last;  // the place of each user's last event
  for (std::size_t begin = 0; begin < chosen.size(); begin += kEventsAtOnce) {
    const std::size_t end = std::min(begin + kEventsAtOnce, chosen.size());
    passed.clear(), last.clear();
    for (std::size_t i = begin; i < end; ++i) {
      const Update& e = batch.events[chosen[i]];
      const Users::Slot slot = batch.slots[chosen[i]];
      Event<S> event;
      if (!take_in(e, slot, event)) continue;
      last.emplace_back(slot, passed.size());
      passed.push_back(event);
    }
    if (answers) {
      std::sort(last.begin(), last.end(), std::greater<>());
      const auto same = [](const auto& a, const auto& b) { return a.first == b.first; };
      last.erase(std::unique(last.begin(), last.end(), same), last.end());
      hidden.resize(last.size() * width);
      std::size_t next = 0;
      for (const auto& [slot, place] : last)
        passed[place].hidden = std::is_same_v<S, float> ? hidden_of(users_.at(slot)) : hidden.data() + width * next++;
    }
    pass(weights(), passed.data(), static_cast<std::int64_t>(passed.size()));
    if (answers && !std::is_same_v<S, float>)
      for (const auto& [slot, place] : last) keep_hidden<S>(users_.at(slot), passed[place].hidden);
  }
}

// before: the time of the user's last event; NaN if there is none.
void Engine::check_order(const Update& e, double before) const {
  if (!(e.time < before)) return;
  throw Problem("the event of user " + quoted(e.user) + " at " + moment_in_words(e.time) +
                    " is earlier than the user's last event, at " + moment_in_words(before),
                "give the events of a user in the order of time");
}

// As update_many of one event, but without its lists.
bool Engine::update(const Update& e) {
  const std::shared_lock items(items_lock_);
  check_time(e.time, "time");
  const std::uint64_t hash = Users::hash(e.user);
  const std::lock_guard lock(users_.lock_of(Users::shard_of(hash)));
  const std::uint64_t key = e.event_id.empty() ? 0 : Users::event_key(hash, e.event_id);
  if (!e.event_id.empty() && users_.knows_event(hash, key)) return false;
  Users::Slot slot = users_.find(e.user, hash, 0);
  const bool known = slot != Users::kNone;
  if (known) users_.at(slot).seen->prefetch();
  if (known && uses_ != Uses::none) check_order(e, *users_.at(slot).time);
  Users::Room room(users_);
  if (options_.seen_budget >= 0 && !(known && users_.at(slot).seen->contains(e.item)))
    check_seen_budget(room.take(SeenItems::kMostBytes, options_.seen_budget), 1);
  if (!known) slot = users_.create(e.user, hash);
  if (!e.event_id.empty()) users_.remember_event(hash, key);
  options_.half_states ? take_one<Bfloat16>(e, slot) : take_one<float>(e, slot);
  return true;
}

// Finds the events that count: not those whose ids are known.  Their order is checked.
void Engine::choose(Batch& batch) const {
  std::unordered_set<std::uint64_t> fresh;
  std::unordered_map<std::string_view, double> newest;
  for (std::size_t i = 0; i < batch.events.size(); ++i) {
    const Update& e = batch.events[i];
    const std::uint64_t hash = batch.hashes[i];
    if (!e.event_id.empty()) {
      batch.keys[i] = Users::event_key(hash, e.event_id);
      if (users_.knows_event(hash, batch.keys[i]) || !fresh.insert(batch.keys[i]).second) continue;
    }
    batch.chosen.push_back(i);
    if (uses_ == Uses::none) continue;
    double before = -std::numeric_limits<double>::infinity();
    if (const auto found = newest.find(e.user); found != newest.end()) {
      before = found->second;
    } else if (const Users::Slot slot = users_.find(e.user, hash); slot != Users::kNone) {
      before = *users_.at(slot).time;  // NaN if there is no event
    }
    check_order(e, before);
    newest[e.user] = e.time;
  }
}

// Takes room for the seen items of the chosen events.
void Engine::take_room(const Batch& batch, Users::Room& room) const {
  if (options_.seen_budget < 0) return;
  auto most = static_cast<std::int64_t>(batch.chosen.size());
  if (room.take(most * SeenItems::kMostBytes, options_.seen_budget)) return;
  for (const std::size_t i : batch.chosen) {  // items that a user has take no room
    const Users::Slot slot = users_.find(batch.events[i].user, batch.hashes[i]);
    if (slot != Users::kNone && users_.at(slot).seen->contains(batch.events[i].item)) --most;
  }
  check_seen_budget(room.take(most * SeenItems::kMostBytes, options_.seen_budget), most);
}

// Finds the users of the chosen events, or creates them.
void Engine::find_users(Batch& batch) {
  for (const std::size_t i : batch.chosen) {
    const Update& e = batch.events[i];
    Users::Slot& slot = batch.slots[i];
    slot = users_.find(e.user, batch.hashes[i]);
    if (slot == Users::kNone) slot = users_.create(e.user, batch.hashes[i]);
    if (!e.event_id.empty()) users_.remember_event(batch.hashes[i], batch.keys[i]);
  }
}

std::int64_t Engine::update_many(const std::vector<Update>& events) {
  if (events.empty()) return 0;
  const std::shared_lock items(items_lock_);
  Batch batch(events);
  std::uint64_t shards = 0;
  for (std::size_t i = 0; i < events.size(); ++i) {
    check_time(events[i].time, "time");
    batch.hashes[i] = Users::hash(events[i].user);
    shards |= std::uint64_t{1} << Users::shard_of(batch.hashes[i]);
  }
  const ShardLocks locks(users_, shards);
  // Everything is checked before anything changes.
  choose(batch);
  Users::Room room(users_);
  take_room(batch, room);
  find_users(batch);

  const std::size_t count = batch.chosen.size();
  const auto parts = std::min<std::size_t>(static_cast<std::size_t>(pool_.threads()), (count + 31) / 32);
  std::vector<std::vector<std::size_t>> shares(std::max<std::size_t>(parts, 1));
  for (const std::size_t i : batch.chosen)
    shares[static_cast<std::size_t>(Users::shard_of(batch.hashes[i])) * shares.size() / Users::kShards].push_back(i);
  pool_.run(static_cast<std::int64_t>(shares.size()), [&](std::int64_t part) {
    const std::vector<std::size_t>& mine = shares[static_cast<std::size_t>(part)];
    options_.half_states ? take<Bfloat16>(batch, mine) : take<float>(batch, mine);
  });
  return static_cast<std::int64_t>(count);
}

template <typename S>
void Engine::replay(Users::Slot slot, const std::vector<std::int32_t>& items, const std::vector<double>& times) {
  users_.reset(slot);
  const User user = users_.at(slot);
  std::vector<Event<S>> events;
  for (std::size_t i = 0; i < items.size(); ++i) {
    Event<S> event;
    if (admit(user, items[i], user.time ? times[i] : 0, event)) events.push_back(event);
  }
  users_.assign_seen(slot, distinct(items));
  std::vector<float> hidden(static_cast<std::size_t>(weights().width));
  const bool answers = uses_ != Uses::request && !windowed_;
  if (answers) events.back().hidden = hidden.data();
  pass(weights(), events.data(), static_cast<std::int64_t>(events.size()));
  if (answers) keep_hidden<S>(user, hidden.data());
  if (!user.history) return;
  user.history->items = items;
  if (user.time) user.history->times = times;
}

void Engine::rebuild(const std::vector<std::string>& users, const std::vector<std::vector<std::int32_t>>& items,
                     const std::vector<std::vector<double>>& times) {
  const std::shared_lock items_lock(items_lock_);
  static const std::vector<double> kNone;
  const auto times_of = [&](std::size_t u) -> const std::vector<double>& { return times.empty() ? kNone : times[u]; };
  std::uint64_t shards = 0;
  std::unordered_set<std::string_view> distinct_users;
  for (std::size_t u = 0; u < users.size(); ++u) {
    check_history(items[u], times_of(u));
    if (!distinct_users.insert(users[u]).second)
      throw Problem("user " + quoted(users[u]) + " has two histories", "give one for each user");
    shards |= std::uint64_t{1} << Users::shard_of(Users::hash(users[u]));
  }
  const ShardLocks locks(users_, shards);
  Users::Room room(users_);
  if (options_.seen_budget >= 0) {
    std::int64_t more = 0, count = 0;
    for (std::size_t u = 0; u < users.size(); ++u) {
      const std::vector<std::int32_t> set = distinct(items[u]);
      more += SeenItems::bytes_of(set), count += static_cast<std::int64_t>(set.size());
      const Users::Slot slot = users_.find(users[u], Users::hash(users[u]));
      if (slot != Users::kNone) more -= users_.at(slot).seen->bytes();
    }
    check_seen_budget(room.take(more, options_.seen_budget), count);
  }
  std::vector<Users::Slot> slots(users.size());
  for (std::size_t u = 0; u < users.size(); ++u) {
    const std::uint64_t hash = Users::hash(users[u]);
    slots[u] = users_.find(users[u], hash);
    if (slots[u] == Users::kNone) slots[u] = users_.create(users[u], hash);
  }
  pool_.run(static_cast<std::int64_t>(users.size()), [&](std::int64_t part) {
    const auto u = static_cast<std::size_t>(part);
    options_.half_states ? replay<Bfloat16>(slots[u], items[u], times_of(u))
                         : replay<float>(slots[u], items[u], times_of(u));
  });
}

}  // namespace recblr::engine
