// What the engine is made of, its checks, its items, and what it says of users.
#include "engine/engine.h"

#include <algorithm>
#include <cmath>
#include <mutex>
#include <unordered_set>
#include <utility>

#include "core/kernel.h"

namespace recblr::engine {
namespace {

#include "core/conversions-inl.h"

template <typename S>
std::vector<char> start_row(const std::vector<float>& state, std::size_t bytes) {
  std::vector<char> row(bytes, 0);
  auto* const to = reinterpret_cast<S*>(row.data());
  for (std::size_t i = 0; i < state.size(); ++i) put(to[i], state[i]);
  return row;
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
  const std::shared_lock items(items_lock_);
  const auto found = numbers_.find(std::string(id));
  if (found == numbers_.end())
    throw Problem("the model has no item " + quoted(id) + " among its " + std::to_string(numbers_.size()) + " items",
                  "give items that it was trained on, such as " + quoted(item_ids_[0]) + ", or add it with add_items");
  return found->second;
}

std::vector<std::string> Engine::ids_of(const std::vector<std::int32_t>& items) const {
  const std::shared_lock lock(items_lock_);
  std::vector<std::string> ids;
  ids.reserve(items.size());
  for (const std::int32_t item : items) ids.push_back(item_ids_[static_cast<std::size_t>(item)]);
  return ids;
}
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
