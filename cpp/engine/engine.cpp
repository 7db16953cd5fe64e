#include "engine/engine.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <mutex>
#include <type_traits>
#include <unordered_set>
#include <utility>

#include "core/kernel.h"

namespace recblr::engine {
namespace {

#include "core/conversions-inl.h"

constexpr std::size_t kEventsAtOnce = 256;
constexpr std::int64_t kExplained = 100;
constexpr double kNever = std::numeric_limits<double>::quiet_NaN();  // the time of no event

float* scratch(const Weights& w) {
  thread_local std::vector<float> memory;
  const auto size = static_cast<std::size_t>(scratch_size(w));
  if (memory.size() < size) memory.resize(size);
  return memory.data();
}

template <typename S>
std::vector<char> start_row(const std::vector<float>& state, std::size_t bytes) {
  std::vector<char> row(bytes, 0);
  auto* const to = reinterpret_cast<S*>(row.data());
  for (std::size_t i = 0; i < state.size(); ++i) put(to[i], state[i]);
  return row;
}

bool contains(const std::vector<std::int32_t>& sorted, std::int32_t item) {
  return std::binary_search(sorted.begin(), sorted.end(), item);
}

std::vector<std::int32_t> distinct(std::vector<std::int32_t> items) {
  std::sort(items.begin(), items.end());
  items.erase(std::unique(items.begin(), items.end()), items.end());
  return items;
}

void check_k(std::int64_t k) {
  if (k < 1)
    throw Problem("k, the number of items to recommend, is " + std::to_string(k), "give a number of at least 1");
}

// The row of a user: the state, then the answer after the last event, unless the answer waits for the time of a
// request.
std::int64_t values_in_row(const Weights& w, bool windowed, bool pending) {
  if (windowed) return 0;
  return w.state_size() + (pending ? 0 : w.width);
}

}  // namespace

Engine::Engine(const Facts& facts, const std::map<std::string, Array>& weights, const float* rows,
               std::vector<std::string> item_ids, const Options& options)
    : facts_(facts),
      options_(options),
      uses_(facts.shape.request ? Uses::request
            : facts.shape.past  ? Uses::past
                                : Uses::none),
      windowed_(facts.max_length > 0),
      model_(facts.shape, weights),
      row_bytes_([this] {
        const auto size = static_cast<std::int64_t>(options_.half_states ? sizeof(Bfloat16) : sizeof(float));
        return (values_in_row(this->weights(), windowed_, uses_ == Uses::request) * size + 63) / 64 * 64;
      }()),
      pool_(options.threads),
      catalogue_(rows, static_cast<std::int64_t>(item_ids.size()), facts.shape.width, options.table),
      item_ids_(std::move(item_ids)),
      file_items_(item_ids_.size()),
      users_(Users::Layout{row_bytes_, uses_ != Uses::none, uses_ == Uses::request && !windowed_, options.history},
             (start_row_ = windowed_ ? std::vector<char>()
                           : options.half_states
                               ? start_row<Bfloat16>(model_.start(), static_cast<std::size_t>(row_bytes_))
                               : start_row<float>(model_.start(), static_cast<std::size_t>(row_bytes_)))
                 .data()) {
  if (windowed_ && !options.history)
    throw Problem("the model sees only the newest " + std::to_string(facts.max_length) +
                      " events of a history (max_length), so it has no state that events can be added to",
                  "load it with history=True, which keeps the events, or train without --max-length");
  numbers_.reserve(item_ids_.size());
  for (std::size_t i = 0; i < item_ids_.size(); ++i) numbers_.emplace(item_ids_[i], static_cast<std::int32_t>(i));
}

std::int32_t Engine::item_of(std::string_view id) const {
  const auto found = numbers_.find(std::string(id));
  if (found == numbers_.end())
    throw Problem("the model has no item " + quoted(id) + " among its " + std::to_string(numbers_.size()) + " items",
                  "give items that it was trained on, such as " + quoted(item_ids_[0]) + ", or add it with add_items");
  return found->second;
}

std::string Engine::item_id(std::int32_t item) const { return item_ids_[static_cast<std::size_t>(item)]; }
std::int64_t Engine::num_items() const {
  const std::shared_lock items(items_lock_);
  return catalogue_.size();
}
std::vector<std::string> Engine::item_ids() const {
  const std::shared_lock items(items_lock_);
  return item_ids_;
}

Problem Engine::unknown_user(const std::string& user) const {
  return {"the engine has no user " + quoted(user), "give an event first with update, or use recommend_history"};
}

void Engine::check_seen_budget(bool fits, std::int64_t events) const {
  if (fits) return;
  throw Problem("the seen items of all users take " + std::to_string(users_.seen_bytes()) + " bytes, and " +
                    std::to_string(events) + " more may exceed the " + std::to_string(options_.seen_budget) +
                    " bytes of seen_bytes",
                "load the engine with more, or forget users");
}

double Engine::moment(double time) const {
  const Clock& c = facts_.clock;
  return c.step > 0 ? std::floor((time - c.start) / c.step) * c.step + c.start : time;
}

float Engine::gap(double from, double to) const {
  if (std::isnan(from)) return 0;
  const double gap = moment(to) - moment(from);  // NaN if rounding makes both infinite
  return gap > 0 ? static_cast<float>(std::min(gap, facts_.clock.longest_gap)) : 0;
}

void Engine::check_time(double time, const char* what) const {
  if (uses_ == Uses::none) return;
  if (time == kNoTime)
    throw Problem("the model was trained with --time " + std::string(uses_ == Uses::past ? "past" : "request") +
                      ", so it needs the time of each event",
                  std::string("give ") + what + "= in seconds since 1970");
  if (!std::isfinite(time)) throw Problem("a time is NaN or infinite", "give seconds since 1970");
}

// The time of a request, by default that of the last event.
void Engine::check_request(double last, double& time) const {
  if (uses_ != Uses::request || time == kNoTime) {
    time = last;
    return;
  }
  if (!std::isfinite(time)) throw Problem("a time is NaN or infinite", "give seconds since 1970");
  if (time < last)
    throw Problem(
        "the request is at " + moment_in_words(time) + ", but the last event is later, at " + moment_in_words(last),
        "give a later time");
}

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
void Engine::pass(const std::vector<Event<S>>& events) const {
  compute(Pass<S>{&weights(), events.data(), scratch(weights())}, Units{0, static_cast<std::int64_t>(events.size())});
}

float* Engine::hidden_of(const User& user) const { return reinterpret_cast<float*>(user.row) + weights().state_size(); }

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
  compute(Pass<S>{&weights(), &event, scratch(weights())}, Units{0, 1});
  if (event.hidden) keep_hidden<S>(users_.at(slot), hidden.data());
}

// Takes the chosen events in, which are of users whose locks the caller holds.
template <typename S>
void Engine::take(const std::vector<Update>& events, const std::vector<std::size_t>& chosen,
                  const std::vector<Users::Slot>& slots) {
  const bool answers = uses_ != Uses::request && !windowed_;
  const auto width = static_cast<std::size_t>(weights().width);
  std::vector<Event<S>> passed;
  std::vector<float> hidden;
  std::vector<std::pair<Users::Slot, std::size_t>> last;  // the place of each user's last event
  for (std::size_t begin = 0; begin < chosen.size(); begin += kEventsAtOnce) {
    const std::size_t end = std::min(begin + kEventsAtOnce, chosen.size());
    passed.clear(), last.clear();
    for (std::size_t i = begin; i < end; ++i) {
      const Update& e = events[chosen[i]];
      const Users::Slot slot = slots[chosen[i]];
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
    pass(passed);
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
  Users::Slot slot = users_.find(e.user, hash);
  const bool known = slot != Users::kNone;
  if (known && uses_ != Uses::none) check_order(e, *users_.at(slot).time);
  Users::Room room(users_);
  if (options_.seen_budget >= 0 && !(known && users_.at(slot).seen->contains(e.item)))
    check_seen_budget(room.take(SeenItems::kMostBytes, options_.seen_budget), 1);
  if (!known) slot = users_.create(e.user, hash);
  if (!e.event_id.empty()) users_.remember_event(hash, key);
  options_.half_states ? take_one<Bfloat16>(e, slot) : take_one<float>(e, slot);
  return true;
}

std::int64_t Engine::update_many(const std::vector<Update>& events) {
  if (events.empty()) return 0;
  const std::shared_lock items(items_lock_);
  std::vector<std::uint64_t> hashes(events.size());
  std::uint64_t shards = 0;
  for (std::size_t i = 0; i < events.size(); ++i) {
    check_time(events[i].time, "time");
    hashes[i] = Users::hash(events[i].user);
    shards |= std::uint64_t{1} << Users::shard_of(hashes[i]);
  }
  const ShardLocks locks(users_, shards);

  // Everything is checked before anything changes.
  std::vector<std::size_t> counted;
  counted.reserve(events.size());
  std::unordered_set<std::uint64_t> fresh;
  std::vector<std::uint64_t> keys(events.size());
  std::unordered_map<std::string_view, double> newest;
  for (std::size_t i = 0; i < events.size(); ++i) {
    const Update& e = events[i];
    if (!e.event_id.empty()) {
      keys[i] = Users::event_key(hashes[i], e.event_id);
      if (users_.knows_event(hashes[i], keys[i]) || !fresh.insert(keys[i]).second) continue;
    }
    counted.push_back(i);
    if (uses_ == Uses::none) continue;
    double before = -std::numeric_limits<double>::infinity();
    if (const auto found = newest.find(e.user); found != newest.end()) {
      before = found->second;
    } else if (const Users::Slot slot = users_.find(e.user, hashes[i]); slot != Users::kNone) {
      before = *users_.at(slot).time;  // NaN if there is no event
    }
    check_order(e, before);
    newest[e.user] = e.time;
  }
  Users::Room room(users_);
  if (options_.seen_budget >= 0) {
    auto most = static_cast<std::int64_t>(counted.size());
    if (!room.take(most * SeenItems::kMostBytes, options_.seen_budget)) {
      for (const std::size_t i : counted) {  // items that a user has take no room
        const Users::Slot slot = users_.find(events[i].user, hashes[i]);
        if (slot != Users::kNone && users_.at(slot).seen->contains(events[i].item)) --most;
      }
      check_seen_budget(room.take(most * SeenItems::kMostBytes, options_.seen_budget), most);
    }
  }

  std::vector<Users::Slot> slots(events.size());
  for (const std::size_t i : counted) {
    const Update& e = events[i];
    slots[i] = users_.find(e.user, hashes[i]);
    if (slots[i] == Users::kNone) slots[i] = users_.create(e.user, hashes[i]);
    if (!e.event_id.empty()) users_.remember_event(hashes[i], keys[i]);
  }
  const auto parts = std::min<std::size_t>(static_cast<std::size_t>(pool_.threads()), (counted.size() + 31) / 32);
  std::vector<std::vector<std::size_t>> chosen(std::max<std::size_t>(parts, 1));
  for (const std::size_t i : counted)
    chosen[static_cast<std::size_t>(Users::shard_of(hashes[i])) * chosen.size() / Users::kShards].push_back(i);
  const auto work = [&](std::int64_t part) {
    const std::vector<std::size_t>& mine = chosen[static_cast<std::size_t>(part)];
    options_.half_states ? take<Bfloat16>(events, mine, slots) : take<float>(events, mine, slots);
  };
  pool_.run(static_cast<std::int64_t>(chosen.size()), work);
  return static_cast<std::int64_t>(counted.size());
}

void Engine::check_history(const std::vector<std::int32_t>& items, const std::vector<double>& times) const {
  if (items.empty()) throw Problem("the history is empty", "give one item or more");
  if (uses_ == Uses::none) return;
  if (times.empty()) check_time(kNoTime, "times");
  if (times.size() != items.size())
    throw Problem("the history has " + std::to_string(items.size()) + " event(s), but " + std::to_string(times.size()) +
                      " time(s)",
                  "give one for each");
  for (std::size_t i = 0; i < times.size(); ++i) {
    if (!std::isfinite(times[i])) throw Problem("a time is NaN or infinite", "give seconds since 1970");
    if (i && times[i] < times[i - 1])
      throw Problem("the times of the history decrease", "give the events oldest first");
  }
}

// Passes a stretch of a history into a float32 state, and gives the answer after its last event if it is asked for.
// before: the time of the event before the stretch; NaN if there is none.  after: that of what follows the stretch.
void Engine::pass_history(const std::int32_t* items, const double* times, std::int64_t count, double before,
                          double after, float* state, float* hidden) const {
  const bool timed = uses_ != Uses::none, requests = uses_ == Uses::request;
  std::vector<Event<float>> events(static_cast<std::size_t>(count));
  for (std::int64_t i = 0; i < count; ++i) {
    const float past = timed ? gap(i ? times[i - 1] : before, times[i]) : 0;
    const float next = requests ? gap(times[i], i + 1 < count ? times[i + 1] : after) : 0;
    float* const out = i + 1 < count ? nullptr : hidden;
    events[static_cast<std::size_t>(i)] = {catalogue_.row(items[i]), past, next, state, out};
  }
  pass(events);
}

// The answer to a request after a whole history.
std::vector<float> Engine::answer_to(const std::int32_t* items, const double* times, std::int64_t count,
                                     double time) const {
  const std::int64_t unseen = windowed_ ? std::max<std::int64_t>(0, count - facts_.max_length) : 0;
  std::vector<float> state = model_.start(), hidden(static_cast<std::size_t>(weights().width));
  if (count)
    pass_history(items + unseen, times ? times + unseen : nullptr, count - unseen, kNever, time, state.data(),
                 hidden.data());
  return hidden;
}

// The answer to a request of a user whose lock the caller holds, and who has an event.
std::vector<float> Engine::answer_of(const User& user, double time) {
  if (windowed_)
    return answer_to(user.history->items.data(), user.time ? user.history->times.data() : nullptr,
                     static_cast<std::int64_t>(user.history->items.size()), time);
  const auto width = static_cast<std::size_t>(weights().width), size = static_cast<std::size_t>(weights().state_size());
  std::vector<float> hidden(width);
  if (!user.pending) {
    if (!options_.half_states) {
      std::memcpy(hidden.data(), hidden_of(user), width * sizeof(float));
    } else {
      const auto* from = reinterpret_cast<const Bfloat16*>(user.row) + size;
      for (std::size_t c = 0; c < width; ++c) hidden[c] = widen(from[c]);
    }
    return hidden;
  }
  thread_local std::vector<float> copy;  // the step is not kept
  copy.resize(size);
  if (options_.half_states) {
    const auto* from = reinterpret_cast<const Bfloat16*>(user.row);
    for (std::size_t i = 0; i < size; ++i) copy[i] = widen(from[i]);
  } else {
    std::memcpy(copy.data(), user.row, size * sizeof(float));
  }
  const Event<float> event{catalogue_.row(user.pending->item), user.pending->gap, gap(*user.time, time), copy.data(),
                           hidden.data()};
  compute(Pass<float>{&weights(), &event, scratch(weights())}, Units{0, 1});
  return hidden;
}

Engine::Asked Engine::asked_of(const std::string& user, double time) {
  const std::uint64_t hash = Users::hash(user);
  const ShardLocks lock(users_, Users::shard_of(hash));
  const Users::Slot slot = users_.find(user, hash);
  if (slot == Users::kNone) throw unknown_user(user);
  const User kept = users_.at(slot);
  if (kept.time) check_request(*kept.time, time);
  Asked asked{answer_of(kept, time), {}};
  kept.seen->append_to(asked.seen);
  return asked;
}

std::vector<std::vector<Scored>> Engine::best(const std::vector<Asked>& asked, std::int64_t k, const Filter& filter) {
  const auto rows = static_cast<std::int64_t>(asked.size()), most = std::min(k, catalogue_.size());
  std::vector<Query> queries(asked.size());
  for (std::size_t q = 0; q < asked.size(); ++q) {
    Query& query = queries[q];
    query.vector = asked[q].hidden.data();
    query.seen = asked[q].seen.data(), query.num_seen = static_cast<std::int64_t>(asked[q].seen.size());
    query.seen_bias = facts_.repeats ? facts_.repeat_bias : 0, query.mask_seen = filter.mask_seen;
    query.excluded = filter.excluded.data(), query.num_excluded = static_cast<std::int64_t>(filter.excluded.size());
    if (filter.only_allowed)
      query.allowed = filter.allowed.data(), query.num_allowed = static_cast<std::int64_t>(filter.allowed.size());
  }
  std::vector<Scored> found(asked.size() * static_cast<std::size_t>(most));
  std::vector<std::int64_t> counts(asked.size());
  catalogue_.best(queries.data(), rows, most, found.data(), counts.data(), pool_);
  std::vector<std::vector<Scored>> lists(asked.size());
  for (std::size_t q = 0; q < asked.size(); ++q) {
    const auto begin = found.begin() + static_cast<std::ptrdiff_t>(q * static_cast<std::size_t>(most));
    lists[q].assign(begin, begin + counts[q]);
  }
  return lists;
}

std::vector<Scored> Engine::recommend(const std::string& user, std::int64_t k, double time, const Filter& filter) {
  check_k(k);
  const std::shared_lock items(items_lock_);
  return best({asked_of(user, time)}, k, filter)[0];
}

std::vector<std::vector<Scored>> Engine::recommend_many(const std::vector<std::string>& users, std::int64_t k,
                                                        const std::vector<double>& times, const Filter& filter) {
  check_k(k);
  const std::shared_lock items(items_lock_);
  std::vector<Asked> asked;
  asked.reserve(users.size());
  for (std::size_t u = 0; u < users.size(); ++u)
    asked.push_back(asked_of(users[u], times.empty() ? kNoTime : times[u]));
  return best(asked, k, filter);
}

std::vector<Scored> Engine::recommend_history(const std::vector<std::int32_t>& history, std::int64_t k,
                                              const std::vector<double>& times, double time, const Filter& filter) {
  check_k(k);
  check_history(history, times);
  if (uses_ != Uses::none) check_request(times.back(), time);
  const std::shared_lock items(items_lock_);
  Asked asked{answer_to(history.data(), times.data(), static_cast<std::int64_t>(history.size()), time),
              distinct(history)};
  return best({std::move(asked)}, k, filter)[0];
}

std::vector<float> Engine::vector(const std::string& user, double time) {
  const std::shared_lock lock(items_lock_);
  return asked_of(user, time).hidden;
}

std::vector<float> Engine::score(const std::string& user, const std::vector<std::int32_t>& items, double time) {
  const std::shared_lock lock(items_lock_);
  const Asked asked = asked_of(user, time);
  std::vector<float> scores(items.size());
  catalogue_.scores(asked.hidden.data(), items.data(), static_cast<std::int64_t>(items.size()), scores.data());
  if (facts_.repeats)
    for (std::size_t i = 0; i < items.size(); ++i)
      if (contains(asked.seen, items[i])) scores[i] += facts_.repeat_bias;
  return scores;
}

std::vector<Influence> Engine::explain(const std::string& user, std::int32_t item, double time) {
  if (!options_.history)
    throw Problem("the engine keeps no histories, which explain needs", "load it with history=True");
  const std::shared_lock lock(items_lock_);
  History history;
  {
    const std::uint64_t hash = Users::hash(user);
    const ShardLocks locks(users_, Users::shard_of(hash));
    const Users::Slot slot = users_.find(user, hash);
    if (slot == Users::kNone) throw unknown_user(user);
    const User kept = users_.at(slot);
    if (kept.time) check_request(*kept.time, time);
    history = *kept.history;
  }
  const auto count = static_cast<std::int64_t>(history.items.size());
  const std::int64_t first = std::max<std::int64_t>(0, count - kExplained);
  // Events before `kept` come before all that may be left out, and so does the event after them, whose time they need.
  // They are passed once.  A window moves when an event is left out, so there is nothing to share.
  const std::int64_t kept = windowed_ ? 0 : std::max<std::int64_t>(0, first - 1);
  const double *const times = history.times.empty() ? nullptr : history.times.data(),
                      before = kept && times ? times[kept - 1] : kNever;
  std::vector<float> start = model_.start();
  if (kept) pass_history(history.items.data(), times, kept, kNever, times ? times[kept] : 0, start.data(), nullptr);
  const auto score_without = [&](std::int64_t left_out) {
    History h;
    bool has = std::find(history.items.begin(), history.items.begin() + kept, item) != history.items.begin() + kept;
    for (std::int64_t i = kept; i < count; ++i) {
      if (i == left_out) continue;
      const std::int32_t other = history.items[static_cast<std::size_t>(i)];
      has = has || other == item;
      h.items.push_back(other);
      if (times) h.times.push_back(times[i]);
    }
    std::vector<float> state = start, hidden(static_cast<std::size_t>(weights().width));
    const auto rest = static_cast<std::int64_t>(h.items.size());
    if (windowed_)
      hidden = answer_to(h.items.data(), h.times.data(), rest, time);
    else if (rest)
      pass_history(h.items.data(), h.times.data(), rest, before, time, state.data(), hidden.data());
    float score;
    catalogue_.scores(hidden.data(), &item, 1, &score);
    return facts_.repeats && has ? score + facts_.repeat_bias : score;
  };
  const float with_all = score_without(-1);
  std::vector<Influence> influences(static_cast<std::size_t>(count - first));
  pool_.run(count - first, [&](std::int64_t i) {
    const std::int64_t place = first + i;
    influences[static_cast<std::size_t>(i)] = {place, history.items[static_cast<std::size_t>(place)],
                                               with_all - score_without(place)};
  });
  std::stable_sort(influences.begin(), influences.end(),
                   [](const Influence& a, const Influence& b) { return std::abs(a.change) > std::abs(b.change); });
  return influences;
}

std::vector<Scored> Engine::similar(std::int32_t item, std::int64_t k) const {
  check_k(k);
  const std::shared_lock lock(items_lock_);
  const std::int64_t width = weights().width;
  const auto product = [&](std::int32_t a, std::int32_t b) {
    const float *x = catalogue_.row(a), *y = catalogue_.row(b);
    double sum = 0;  // squares of float32 may be too large or too small for float32
    for (std::int64_t c = 0; c < width; ++c) sum += double{x[c]} * double{y[c]};
    return sum;
  };
  const double norm = std::sqrt(product(item, item));
  std::vector<Scored> all;
  for (std::int32_t other = 0; other < catalogue_.size(); ++other) {
    if (other == item || catalogue_.retired(other)) continue;
    const double both = norm * std::sqrt(product(other, other));
    all.push_back({other, both > 0 ? static_cast<float>(product(item, other) / both) : 0});
  }
  const auto found = static_cast<std::ptrdiff_t>(std::min<std::int64_t>(k, static_cast<std::int64_t>(all.size())));
  std::partial_sort(all.begin(), all.begin() + found, all.end(), [](const Scored& a, const Scored& b) {
    return a.score > b.score || (a.score == b.score && a.item < b.item);
  });
  all.resize(static_cast<std::size_t>(found));
  return all;
}

bool Engine::knows(const std::string& user) {
  const std::uint64_t hash = Users::hash(user);
  const ShardLocks lock(users_, Users::shard_of(hash));
  return users_.find(user, hash) != Users::kNone;
}

bool Engine::forget(const std::string& user) {
  const std::uint64_t hash = Users::hash(user);
  const ShardLocks lock(users_, Users::shard_of(hash));
  if (users_.find(user, hash) == Users::kNone) return false;
  users_.erase(user, hash);
  return true;
}

std::vector<std::int32_t> Engine::seen(const std::string& user) {
  const std::uint64_t hash = Users::hash(user);
  const ShardLocks lock(users_, Users::shard_of(hash));
  const Users::Slot slot = users_.find(user, hash);
  if (slot == Users::kNone) throw unknown_user(user);
  std::vector<std::int32_t> items;
  users_.at(slot).seen->append_to(items);
  return items;
}

std::vector<std::string> Engine::user_ids() {
  std::vector<std::string> ids;
  for (int s = 0; s < Users::kShards; ++s) {
    const ShardLocks lock(users_, s);
    users_.append_ids(s, ids);
  }
  return ids;
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
  pass(events);
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

void Engine::append_vector(std::int32_t item, std::vector<float>& rows) const {
  const std::shared_lock lock(items_lock_);
  rows.insert(rows.end(), catalogue_.row(item), catalogue_.row(item) + weights().width);
}

Engine::Items Engine::items() const {
  const std::shared_lock lock(items_lock_);
  Items all{item_ids_, {}, {}};
  for (std::int32_t item = 0; item < catalogue_.size(); ++item) {
    if (static_cast<std::size_t>(item) >= file_items_)
      all.added.insert(all.added.end(), catalogue_.row(item), catalogue_.row(item) + weights().width);
    if (catalogue_.retired(item)) all.retired.push_back(item);
  }
  return all;
}

void Engine::add_items(const std::vector<std::string>& ids, const float* rows) {
  const std::unique_lock lock(items_lock_);
  std::unordered_set<std::string_view> fresh;
  for (const std::string& id : ids)
    if (numbers_.count(id) || !fresh.insert(id).second)
      throw Problem("there is an item " + quoted(id) + " already", "give each new item an id of its own");
  const auto count = static_cast<std::int64_t>(ids.size());
  for (std::int64_t i = 0; i < count * weights().width; ++i)
    if (!std::isfinite(rows[i]))
      throw Problem("the vector of item " + quoted(ids[static_cast<std::size_t>(i / weights().width)]) +
                        " holds NaN or an infinite number",
                    "give finite numbers");
  catalogue_.append(rows, count);
  for (const std::string& id : ids) {
    numbers_.emplace(id, static_cast<std::int32_t>(item_ids_.size()));
    item_ids_.push_back(id);
  }
}

void Engine::retire_items(const std::vector<std::int32_t>& items) {
  const std::unique_lock lock(items_lock_);
  std::vector<std::int32_t> fresh;
  std::int64_t left = 0;
  for (const std::int32_t item : distinct(items))
    if (!catalogue_.retired(item)) fresh.push_back(item);
  for (std::int32_t item = 0; item < catalogue_.size(); ++item) left += !catalogue_.retired(item);
  if (left == static_cast<std::int64_t>(fresh.size()))
    throw Problem("all items would be retired", "leave one item or more");
  for (const std::int32_t item : fresh) catalogue_.retire(item);
}

}  // namespace recblr::engine
