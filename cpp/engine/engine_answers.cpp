// Answers: recommendations, scores, explanations and similar items.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <iterator>
#include <limits>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "engine/engine.h"

#include "core/kernel.h"  // last, because it turns declarations of kernels into definitions

namespace recblr::engine {
namespace {

#include "core/conversions-inl.h"

constexpr std::int64_t kExplained = 100;
constexpr double kNever = std::numeric_limits<double>::quiet_NaN();  // the time of no event

bool contains(const std::vector<std::int32_t>& sorted, std::int32_t item) {
  return std::binary_search(sorted.begin(), sorted.end(), item);
}

void check_k(std::int64_t k) {
  if (k < 1)
    throw Problem("k, the number of items to recommend, is " + std::to_string(k), "give a number of at least 1");
}

}  // namespace

float* Engine::hidden_of(const User& user) const { return reinterpret_cast<float*>(user.row) + weights().state_size(); }

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
  pass(weights(), events.data(), static_cast<std::int64_t>(events.size()));
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
  pass(weights(), &event, 1);
  return hidden;
}

// Where a request begins to read the row of a user: at the answer, or at the state if the answer waits for the request.
std::int64_t Engine::read_from() const {
  if (uses_ == Uses::request) return 0;
  return weights().state_size() * static_cast<std::int64_t>(options_.half_states ? sizeof(Bfloat16) : sizeof(float));
}

Engine::Asked Engine::asked_of(const std::string& user, double time) {
  const std::uint64_t hash = Users::hash(user);
  const ShardLocks lock(users_, Users::shard_of(hash));
  const Users::Slot slot = users_.find(user, hash, read_from());
  if (slot == Users::kNone) throw unknown_user(user);
  const User kept = users_.at(slot);
  kept.seen->prefetch();
  if (kept.time) check_request(*kept.time, time);
  Asked asked{answer_of(kept, time), {}};
  kept.seen->append_to(asked.seen);
  return asked;
}

// The catalogue scores allowed items one by one.  It scans faster than half of them, so a longer list becomes one of
// items to leave out.
Filter Engine::scannable(const Filter& filter) const {
  const auto size = static_cast<std::size_t>(catalogue_.size());
  if (!filter.only_allowed || 2 * filter.allowed.size() < size) return filter;
  Filter scanned;
  scanned.mask_seen = filter.mask_seen;
  std::vector<std::int32_t> all(size), others;
  std::iota(all.begin(), all.end(), 0);
  std::set_difference(all.begin(), all.end(), filter.allowed.begin(), filter.allowed.end(), std::back_inserter(others));
  std::set_union(others.begin(), others.end(), filter.excluded.begin(), filter.excluded.end(),
                 std::back_inserter(scanned.excluded));
  return scanned;
}

Query Engine::query_of(const Asked& asked, const Filter& filter) const {
  Query query;
  query.vector = asked.hidden.data();
  query.seen = asked.seen.data(), query.num_seen = static_cast<std::int64_t>(asked.seen.size());
  query.seen_bias = facts_.repeats ? facts_.repeat_bias : 0, query.mask_seen = filter.mask_seen;
  query.excluded = filter.excluded.data(), query.num_excluded = static_cast<std::int64_t>(filter.excluded.size());
  if (filter.only_allowed)
    query.allowed = filter.allowed.data(), query.num_allowed = static_cast<std::int64_t>(filter.allowed.size());
  return query;
}

std::vector<Scored> Engine::best(const Asked& asked, std::int64_t k, const Filter& filter) {
  const Filter scanned = scannable(filter);
  const Query query = query_of(asked, scanned);
  std::vector<Scored> best(static_cast<std::size_t>(std::min(k, catalogue_.size())));
  std::int64_t found;
  catalogue_.best(&query, 1, static_cast<std::int64_t>(best.size()), best.data(), &found, pool_);
  best.resize(static_cast<std::size_t>(found));
  return best;
}

std::vector<Scored> Engine::recommend(const std::string& user, std::int64_t k, double time, const Filter& filter) {
  check_k(k);
  const std::shared_lock items(items_lock_);
  return best(asked_of(user, time), k, filter);
}

std::vector<std::vector<Scored>> Engine::recommend_many(const std::vector<std::string>& users, std::int64_t k,
                                                        const std::vector<double>& times, const Filter& filter) {
  check_k(k);
  const std::shared_lock items(items_lock_);
  std::vector<Asked> asked;
  asked.reserve(users.size());
  for (std::size_t u = 0; u < users.size(); ++u)
    asked.push_back(asked_of(users[u], times.empty() ? kNoTime : times[u]));
  std::vector<Query> queries;
  queries.reserve(users.size());
  const Filter scanned = scannable(filter);
  for (const Asked& one : asked) queries.push_back(query_of(one, scanned));
  const std::int64_t most = std::min(k, catalogue_.size());
  std::vector<Scored> best(users.size() * static_cast<std::size_t>(most));
  std::vector<std::int64_t> found(users.size());
  catalogue_.best(queries.data(), static_cast<std::int64_t>(users.size()), most, best.data(), found.data(), pool_);
  std::vector<std::vector<Scored>> lists;
  lists.reserve(users.size());
  for (std::size_t u = 0; u < users.size(); ++u) {
    const Scored* const list = best.data() + u * static_cast<std::size_t>(most);
    lists.emplace_back(list, list + found[u]);
  }
  return lists;
}

std::vector<Scored> Engine::recommend_history(const std::vector<std::int32_t>& history, std::int64_t k,
                                              const std::vector<double>& times, double time, const Filter& filter) {
  check_k(k);
  check_history(history, times);
  if (uses_ != Uses::none) check_request(times.back(), time);
  const std::shared_lock items(items_lock_);
  const Asked asked{answer_to(history.data(), times.data(), static_cast<std::int64_t>(history.size()), time),
                    distinct(history)};
  return best(asked, k, filter);
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

}  // namespace recblr::engine
