// The engine's parts against plain models: the set of seen items against std::set, the table of users against std::map,
// and many threads that use one engine at once against a replay of each user's events by one thread.
#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "core/dispatch.h"
#include "engine/engine.h"
#include "numbers.h"

namespace {

using namespace recblr::engine;
using Numbers = std::vector<std::int32_t>;

std::atomic<int> failures{0};

void check(bool right, const std::string& what) {
  if (!right && ++failures <= 20) std::printf("FAILED: %s\n", what.c_str());
}

// --- seen items -----------------------------------------------------------------------------------

Numbers content(const SeenItems& seen) {
  Numbers items{-7};  // it appends
  seen.append_to(items);
  check(items[0] == -7, "append_to keeps what is there");
  items.erase(items.begin());
  return items;
}

void compare(const Numbers& inserted, const std::string& what) {
  SeenItems seen;
  std::set<std::int32_t> right;
  for (const std::int32_t item : inserted) {
    check(seen.contains(item) == (right.count(item) > 0), what + ": contains");
    const std::int64_t before = seen.bytes();
    const bool fresh = right.insert(item).second;
    check(seen.insert(item) == fresh, what + ": insert returns whether the item is new");
    check(seen.bytes() - before >= 0 && seen.bytes() - before <= (fresh ? SeenItems::kMostBytes : 0),
          what + ": an item takes at most kMostBytes");
    check(seen.count() == static_cast<std::int64_t>(right.size()), what + ": count");
  }
  const Numbers sorted(right.begin(), right.end());
  check(content(seen) == sorted, what + ": the items");
  check(SeenItems::bytes_of(sorted) == seen.bytes(), what + ": bytes_of");
  seen.clear();
  check(seen.count() == 0 && seen.bytes() == 0 && content(seen).empty() && !seen.contains(0), what + ": clear");
}

void seen_items() {
  constexpr std::int32_t kLargest = 2147483647;
  compare({}, "no item");
  compare({0}, "the first item");
  compare({kLargest}, "the last item");
  compare({kLargest, 0, kLargest, 0, kLargest - 1, 1}, "both ends");
  // A difference of two bytes splits into two of one byte, so the set does not grow.
  compare({200, 100, 50, 25, 150}, "a split that takes no byte");
  Numbers edges;
  for (int bit = 0; bit < 31; ++bit)
    for (std::int64_t by = -2; by <= 2; ++by) {
      const std::int64_t item = (std::int64_t{1} << bit) + by;
      if (item >= 0 && item <= kLargest) edges.push_back(static_cast<std::int32_t>(item));
    }
  std::mt19937 random(1);
  for (int order = 0; order < 20; ++order) {
    compare(edges, "near the powers of two");
    std::shuffle(edges.begin(), edges.end(), random);
  }
  for (const std::int32_t most : {3, 100, 5000, 1 << 20, kLargest}) {
    for (const std::size_t count : {std::size_t{10}, std::size_t{1000}}) {
      std::uniform_int_distribution<std::int32_t> any(0, most);
      Numbers items(count);
      for (std::int32_t& item : items) item = any(random);
      compare(items, "random items up to " + std::to_string(most));
      std::sort(items.begin(), items.end());
      compare(items, "ascending items");
      std::reverse(items.begin(), items.end());
      compare(items, "descending items");
    }
  }
}

// --- the table of users ---------------------------------------------------------------------------

struct Kept {
  std::int32_t tag;
  std::set<std::int32_t> seen;
  std::set<std::string> events;
};

void users(const Users::Layout& layout, int steps, const std::vector<std::string>& ids) {
  std::vector<char> start(static_cast<std::size_t>(layout.row_bytes), 'x');
  Users users(layout, start.data());
  std::map<std::string, Kept> right;
  std::mt19937 random(2);
  const auto any = [&](std::size_t below) { return std::uniform_int_distribution<std::size_t>(0, below - 1)(random); };
  const auto agree = [&](const std::string& id, const Kept& kept) {
    const std::uint64_t hash = Users::hash(id);
    const Users::Slot slot = users.find(id, hash);
    if (slot == Users::kNone) return check(false, "a user is not found");
    const User user = users.at(slot);
    if (layout.row_bytes) check(std::memcmp(user.row, &kept.tag, sizeof kept.tag) == 0, "the row of a user");
    check(content(*user.seen) == Numbers(kept.seen.begin(), kept.seen.end()), "the seen items of a user");
    if (user.time) check(*user.time == kept.tag, "the time of a user");
    if (user.pending) check(user.pending->item == kept.tag, "the pending event of a user");
    if (user.history) check(user.history->items == Numbers(1, kept.tag), "the history of a user");
    for (const char* event : {"a", "b"})
      check(users.knows_event(hash, Users::event_key(hash, event)) == (kept.events.count(event) > 0), "an event id");
  };
  std::int32_t tags = 0;
  std::size_t few = 1;  // first the users grow, then they come and go
  for (int step = 0; step < steps; ++step) {
    few = std::min(ids.size(), 1 + static_cast<std::size_t>(2 * step) * ids.size() / static_cast<std::size_t>(steps));
    const std::string& id = ids[any(few)];
    const std::uint64_t hash = Users::hash(id);
    const auto found = right.find(id);
    check((users.find(id, hash) != Users::kNone) == (found != right.end()), "whether a user exists");
    if (found == right.end()) {
      const User user = users.at(users.create(id, hash));
      check(std::equal(start.begin(), start.end(), user.row), "a new user has the row of the start");
      check(content(*user.seen).empty(), "a new user has seen nothing");
      check(!user.time || std::isnan(*user.time), "a new user has no time");
      check(!user.pending || user.pending->item == -1, "a new user has no pending event");
      check(!user.history || user.history->items.empty(), "a new user has no history");
      Kept kept{++tags, {}, {}};
      if (layout.row_bytes) std::memcpy(user.row, &kept.tag, sizeof kept.tag);
      if (user.time) *user.time = kept.tag;
      if (user.pending) *user.pending = {kept.tag, 0};
      if (user.history) user.history->items = {kept.tag};
      right.emplace(id, kept);
    } else if (any(3) == 0) {
      users.erase(id, hash);
      right.erase(found);
    } else {
      const auto item = static_cast<std::int32_t>(any(40));
      users.insert_seen(users.find(id, hash), item);
      found->second.seen.insert(item);
      const std::string event = any(2) ? "a" : "b";
      users.remember_event(hash, Users::event_key(hash, event));
      found->second.events.insert(event);
      agree(id, found->second);
    }
  }
  std::int64_t bytes = 0;
  for (const auto& [id, kept] : right) {
    agree(id, kept);
    bytes += SeenItems::bytes_of(Numbers(kept.seen.begin(), kept.seen.end()));
  }
  std::vector<std::string> all;
  for (int shard = 0; shard < Users::kShards; ++shard) users.append_ids(shard, all);
  std::sort(all.begin(), all.end());
  check(all.size() == right.size() && std::equal(all.begin(), all.end(), right.begin(),
                                                 [](const auto& id, const auto& kept) { return id == kept.first; }),
        "the ids of all users");
  check(users.count() == static_cast<std::int64_t>(right.size()), "the number of users");
  check(users.seen_bytes() == bytes, "the bytes of seen items");
  for (const auto& [id, kept] : right) users.erase(id, Users::hash(id));
  check(users.count() == 0 && users.seen_bytes() == 0, "all users are erased");
}

void table_of_users() {
  std::vector<std::string> ids{"", std::string(1, '\0'), "a", std::string("a\0", 2), std::string("a\0b", 3)};
  for (int n = 0; n < 3000; ++n) ids.push_back(std::to_string(n) + std::string(static_cast<std::size_t>(n % 200), 'x'));
  for (const Users::Layout& layout : {Users::Layout{64, true, true, true}, Users::Layout{128, false, false, false},
                                      Users::Layout{0, true, false, true}})
    users(layout, recblr_test::thorough() ? 100000 : 20000, ids);
  // Ids of one shard, so that its table is full and its entries lie one behind another.
  std::vector<std::string> crowded;
  for (int n = 0; crowded.size() < 300; ++n)
    if (Users::shard_of(Users::hash(std::to_string(n))) == 5) crowded.push_back(std::to_string(n));
  users({64, true, true, false}, 20000, crowded);
}

// --- many threads ---------------------------------------------------------------------------------

constexpr std::int64_t kItems = 50, kWidth = 8, kInner = 12, kTaps = 3, kWide = 20;

// A model of random weights that knows the times of requests.
struct Content {
  Facts facts{};
  std::map<std::string, std::vector<float>> values;
  std::map<std::string, Array> arrays;
  std::vector<float> rows;
  std::vector<std::string> ids;

  explicit Content(int layers, bool timed) {
    facts.shape = {kWidth, kInner, kTaps, layers, 0, 0.0, timed, timed};
    facts.clock = {1e6, 60, 7};
    facts.repeats = true;
    facts.repeat_bias = 0.5f;
    facts.digest = std::string(32, 'd');
    std::mt19937 random(3);
    std::normal_distribution<float> normal(0, 0.4f);
    const auto draw = [&](const std::string& name, std::vector<std::int64_t> shape) {
      std::int64_t count = 1;
      for (const std::int64_t size : shape) count *= size;
      std::vector<float>& v = values[name];
      for (std::int64_t i = 0; i < count; ++i) v.push_back(normal(random));
      arrays[name] = {v.data(), std::move(shape)};
    };
    const auto affine = [&](const std::string& name, std::int64_t out, std::int64_t in) {
      in ? draw(name + ".weight", {out, in}) : draw(name + ".weight", {out});
      draw(name + ".bias", {out});
    };
    affine("layer_norm", kWidth, 0);
    for (int l = 0; l < layers; ++l) {
      const std::string here = "layers." + std::to_string(l) + ".", unit = here + "recurrent.";
      draw(unit + "input.weight", {2 * kInner, kWidth});
      draw(unit + "conv1d.weight", {kInner, kTaps});
      draw(unit + "conv1d.bias", {kInner});
      draw(unit + "bdlru.Lambda", {kInner});
      affine(unit + "bdlru.gates", 2 * kInner, kInner);
      draw(unit + "output.weight", {kWidth, kInner});
      draw(unit + "average.decay", {kWidth});
      draw(unit + "average.weight", {kWidth});
      affine(here + "layer_norm", kWidth, 0);
      affine(here + "ffn.w_1", kWide, kWidth);
      affine(here + "ffn.w_2", kWidth, kWide);
      affine(here + "ffn_norm", kWidth, 0);
    }
    for (const char* gaps : {"time.past", "time.next", "time.answer.gap"})
      draw(gaps + std::string(".knots.weight"), {kKnots, kWidth});
    draw("fading.logarithm.knots.weight", {kKnots, 1});
    affine("time.answer.w_1", 4 * kWidth, 2 * kWidth);
    affine("time.answer.w_2", kWidth, 4 * kWidth);
    draw("rows", {kItems, kWidth});
    rows = values["rows"];
    for (int n = 0; n < kItems; ++n) ids.push_back("i" + std::to_string(n));
  }
  Engine engine(int threads, bool half, std::int64_t budget = -1) const {
    return Engine(facts, arrays, rows.data(), ids, {threads, half, Precision::int8, true, budget});
  }
};

void threads(bool timed, bool half, int rounds) {
  const Content content(2, timed);
  Engine engine = content.engine(3, half), right = content.engine(1, half);
  constexpr int kWriters = 3, kUsers = 24;
  // The events of each user since the last time that the user was forgotten; each user has one writer.
  std::array<std::map<std::string, std::pair<Numbers, std::vector<double>>>, kWriters> kept;
  std::atomic<bool> end{false};
  std::atomic<int> answers{0};

  const auto write = [&](int part) {
    std::mt19937 random(static_cast<unsigned>(part));
    const auto any = [&](int below) { return std::uniform_int_distribution<int>(0, below - 1)(random); };
    const auto user_of = [&](int n) { return "w" + std::to_string(part) + "-" + std::to_string(n); };
    double now = 1e9;
    int events = 0;
    for (int round = 0; round < rounds; ++round) {
      std::vector<Update> batch;
      for (int n = any(3) ? 1 + any(3) : 80; n > 0; --n) {
        now += any(100);
        batch.push_back(
            {user_of(any(kUsers)), any(kItems), now, "e" + std::to_string(part) + "." + std::to_string(events++)});
        auto& [items, times] = kept[static_cast<std::size_t>(part)][batch.back().user];
        items.push_back(batch.back().item);
        times.push_back(now);
      }
      check(engine.update_many(batch) == static_cast<std::int64_t>(batch.size()), "all events count");
      check(engine.update_many(batch) == 0, "no event counts twice");
      if (any(4) == 0) {
        const std::string user = user_of(any(kUsers));
        check(engine.forget(user) == (kept[static_cast<std::size_t>(part)].erase(user) > 0), "forget");
      }
      if (any(4) == 0) {
        const std::string user = batch.back().user;
        if (engine.knows(user)) engine.set_state(user, engine.state(user));
      }
      if (any(8) == 0 && kept[static_cast<std::size_t>(part)].size() > 1) {
        std::vector<std::string> ids;
        std::vector<Numbers> items;
        std::vector<std::vector<double>> times;
        for (const auto& [user, history] : kept[static_cast<std::size_t>(part)])
          ids.push_back(user), items.push_back(history.first), times.push_back(history.second);
        engine.rebuild(ids, items, times);
      }
    }
  };
  const auto read = [&](int part) {
    std::mt19937 random(static_cast<unsigned>(100 + part));
    const auto any = [&](int below) { return std::uniform_int_distribution<int>(0, below - 1)(random); };
    while (!end) {
      const std::string user = "w" + std::to_string(any(kWriters)) + "-" + std::to_string(any(kUsers));
      try {
        Filter filter;
        filter.mask_seen = any(2);
        filter.excluded = {1, 5, 9};
        const auto best = engine.recommend_many(
            {user, user}, 5, timed ? std::vector<double>{1e12, 1e12} : std::vector<double>{}, filter);
        for (const auto& list : best)
          for (std::size_t i = 1; i < list.size(); ++i)
            check(list[i - 1].score >= list[i].score, "the best come first");
        engine.recommend(user, 3, kNoTime, filter);
        engine.score(user, {0, 1, 2}, kNoTime);
        engine.seen(user);
        if (any(10) == 0) engine.explain(user, 3, kNoTime);
        engine.similar(any(kItems), 3);
        engine.recommend_history({1, 2, 3}, 4, timed ? std::vector<double>{1, 2, 3} : std::vector<double>{}, kNoTime,
                                 filter);
        ++answers;
      } catch (const Problem& problem) {
        check(problem.problem.find("no user") != std::string::npos, problem.what());
      }
      if (any(20) == 0) engine.user_ids();
      engine.users(), engine.seen_bytes(), engine.num_items();
    }
  };
  const auto add = [&] {
    for (int n = 0; !end && n < 200; ++n) {
      const std::vector<float> row(kWidth, 0.01f * static_cast<float>(n));
      engine.add_items({"n" + std::to_string(n)}, row.data());
      engine.retire_items({static_cast<std::int32_t>(kItems) + n});
      engine.items(), engine.item_ids();
      std::this_thread::yield();
    }
  };
  std::vector<std::thread> writers, others;
  for (int n = 0; n < 2; ++n) others.emplace_back(read, n);
  others.emplace_back(add);
  for (int n = 0; n < kWriters; ++n) writers.emplace_back(write, n);
  for (std::thread& thread : writers) thread.join();
  end = true;
  for (std::thread& thread : others) thread.join();

  check(answers > 0, "the readers had answers");
  std::int64_t count = 0;
  for (const auto& part : kept)
    for (const auto& [user, history] : part) {
      ++count;
      const auto& [items, times] = history;
      for (std::size_t i = 0; i < items.size(); ++i) right.update({user, items[i], times[i], ""});
      check(engine.state(user) == right.state(user), "the state of a user");
    }
  check(engine.users() == count && engine.seen_bytes() == right.seen_bytes(), "all that is kept");
}

// Calls that are refused one by one must not be accepted at once.
void budget() {
  const Content content(1, false);
  Engine engine = content.engine(1, false, 60);
  std::vector<std::thread> pool;
  for (int t = 0; t < 4; ++t)
    pool.emplace_back([&, t] {
      for (int n = 0; n < 200; ++n) {
        try {
          engine.update({"u" + std::to_string(t) + "." + std::to_string(n), n % 50, kNoTime, ""});
        } catch (const Problem&) {
        }
        check(engine.seen_bytes() <= 60, "the budget of seen items");
      }
    });
  for (std::thread& thread : pool) thread.join();
  check(engine.seen_bytes() > 40, "most of the budget is used");
}

}  // namespace

int main() {
  if (const char* error = recblr::isa_error()) {
    std::printf("skipped: %s\n", error);
    return 77;
  }
  seen_items();
  table_of_users();
  const int rounds = recblr_test::thorough() ? 400 : 100;
  for (const bool timed : {true, false})
    for (const bool half : {false, true}) threads(timed, half, rounds);
  budget();
  std::printf("the engine on %s: %d failures\n", recblr::isa_name(recblr::isa()), failures.load());
  return failures ? 1 : 0;
}
