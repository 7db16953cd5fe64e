// Claim: an event and the ten best of 3,416 items take at most 16 µs (median) and 25 µs (99th percentile) on one core
// with AVX-512, for any of 100,000 users; an event alone takes 11 µs, and in batches of 8 or more 6 µs.
//
// The part of benchmarks/engine.py that is timed inside the engine, without Python.  That program starts this one,
// sends commands and makes the figures, so that the contenders take turns:
//
//   model FOLDER                                      reads a model that engine.py wrote
//   engine NAME THREADS STATES TABLE USERS            makes an engine, whose users have seen FOLDER's items
//   time NAME event|update|recommend BATCH COUNT      seconds of COUNT calls of BATCH users at random
//   memory NAME                                       bytes of the process, and bytes of a row
//   table FILE COUNT WIDTH QUERIES                    items and queries, float32, one file
//   best TABLE THREADS BATCH COUNT                    seconds of COUNT calls, and the items of the last one
//   survivors TABLE COUNT                             items a query that the bound does not rule out
//   read BYTES CORE, multiply CORE                    bytes a second, multiply-adds a second; core -1: all at once
//
// Each answer is one line of JSON.  Work on one thread is kept on the first core of the process.
#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <memory>
#include <random>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "engine/engine.h"

namespace {

using namespace recblr::engine;

constexpr std::int64_t kBest = 10, kTemplates = 64;
using Seconds = std::vector<double>;

template <typename F>
double seconds(const F& f) {
  const auto start = std::chrono::steady_clock::now();
  f();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// The cores of the process, as it was started.
const cpu_set_t& all_cores() {
  static const cpu_set_t cores = [] {
    cpu_set_t set;
    CPU_ZERO(&set);
    sched_getaffinity(0, sizeof set, &set);
    return set;
  }();
  return cores;
}

// Keeps this thread on one core; -1: the first one of the process.
class OnCore {
 public:
  explicit OnCore(int core = -1) {
    for (int c = 0; core < 0; ++c)
      if (CPU_ISSET(c, &all_cores())) core = c;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(core, &one);
    sched_setaffinity(0, sizeof one, &one);
  }
  ~OnCore() { sched_setaffinity(0, sizeof(cpu_set_t), &all_cores()); }
  OnCore(const OnCore&) = delete;
  OnCore& operator=(const OnCore&) = delete;
};

// The float32 numbers of a file, mapped.
const float* numbers_of(const std::string& path) {
  const int file = open(path.c_str(), O_RDONLY);
  const off_t size = file < 0 ? -1 : lseek(file, 0, SEEK_END);
  void* const data = size <= 0
                         ? MAP_FAILED
                         : mmap(nullptr, static_cast<std::size_t>(size), PROT_READ, MAP_SHARED | MAP_POPULATE, file, 0);
  if (data == MAP_FAILED) throw Problem("cannot read " + path, "start this program from benchmarks/engine.py");
  close(file);
  return static_cast<const float*>(data);
}

Precision precision_of(const std::string& name) {
  return name == "int8" ? Precision::int8 : name == "bfloat16" ? Precision::bfloat16 : Precision::float32;
}

// What engine.py wrote of a model: facts, tensors and the users to copy.
struct Written {
  Facts facts{};
  std::map<std::string, Array> tensors;
  const float* rows = nullptr;
  std::int64_t items = 0;
  std::vector<std::vector<std::int32_t>> histories;
};

Written read_model(const std::string& folder) {
  Written w;
  const float* const data = numbers_of(folder + "/tensors");
  std::ifstream text(folder + "/facts");
  std::string line;
  while (std::getline(text, line)) {
    std::istringstream words(line);
    std::string key;
    words >> key;
    Facts& f = w.facts;
    if (key == "shape") {
      Shape& s = f.shape;
      words >> s.width >> s.inner >> s.taps >> s.layers >> s.padding_steps >> s.beta_epsilon >> s.past >> s.request;
    } else if (key == "clock") {
      words >> f.clock.longest_gap >> f.clock.step >> f.clock.start;
    } else if (key == "repeats") {
      words >> f.repeats >> f.repeat_bias;
    } else if (key == "rows") {
      std::int64_t offset;
      words >> offset >> w.items;
      w.rows = data + offset;
    } else if (key == "tensor") {
      std::string name;
      std::int64_t offset, size;
      words >> name >> offset;
      Array array{data + offset, {}};
      while (words >> size) array.shape.push_back(size);
      w.tensors[name] = array;
    } else if (key == "history") {
      std::vector<std::int32_t> items;
      for (std::int32_t item; words >> item;) items.push_back(item);
      w.histories.push_back(items);
    }
  }
  w.facts.digest = std::string(32, 'b');
  if (!w.rows) throw Problem(folder + " holds no model", "start this program from benchmarks/engine.py");
  return w;
}

// An engine whose users have histories, and users and items at random.
class Served {
 public:
  Served(const Written& w, int threads, bool half, Precision table, std::int64_t users)
      : timed_(w.facts.shape.past), items_(w.items), threads_(threads) {
    std::vector<std::string> ids;
    for (std::int64_t i = 0; i < w.items; ++i) ids.push_back("item" + std::to_string(i));
    before_ = resident();
    engine_ =
        std::make_unique<Engine>(w.facts, w.tensors, w.rows, std::move(ids), Options{threads, half, table, false, -1});
    std::vector<std::string> states;
    for (std::size_t h = 0; h < w.histories.size(); ++h) {
      const std::vector<double> times(timed_ ? w.histories[h].size() : 0, 0.0);
      engine_->rebuild({"template"}, {w.histories[h]},
                       times.empty() ? std::vector<std::vector<double>>{} : std::vector<std::vector<double>>{times});
      states.push_back(engine_->state("template"));
    }
    engine_->forget("template");
    for (std::int64_t u = 0; u < users; ++u) {
      names_.push_back("user" + std::to_string(u));
      engine_->set_state(names_.back(), states[static_cast<std::size_t>(u) % states.size()]);
    }
  }

  Seconds time(const std::string& what, std::int64_t batch, std::int64_t count) {
    std::unique_ptr<OnCore> pin;
    if (threads_ == 1) pin = std::make_unique<OnCore>();
    const Filter all;
    Seconds taken;
    for (std::int64_t i = 0; i < count; ++i) {
      std::vector<Update> events;
      std::vector<std::string> users;
      for (std::int64_t b = 0; b < batch; ++b) {
        const std::string& user = names_[random_() % names_.size()];
        events.push_back({user, static_cast<std::int32_t>(random_() % static_cast<std::uint64_t>(items_)),
                          timed_ ? 1e9 + static_cast<double>(events_++) : kNoTime, ""});
        users.push_back(user);
      }
      const bool updates = what != "recommend", recommends = what != "update";
      taken.push_back(seconds([&] {
        if (updates) batch == 1 ? engine_->update(events[0]) : engine_->update_many(events) > 0;
        if (!recommends) return;
        if (batch == 1)
          found_ += engine_->recommend(users[0], kBest, kNoTime, all).size();
        else
          found_ += engine_->recommend_many(users, kBest, {}, all).size();
      }));
    }
    return taken;
  }

  static std::int64_t resident() {
    std::ifstream file("/proc/self/statm");
    std::int64_t all = 0, resident = 0;
    file >> all >> resident;
    return resident * sysconf(_SC_PAGESIZE);
  }
  std::string memory() const {
    std::ostringstream json;
    json << "{\"bytes\": " << resident() - before_ << ", \"row\": " << engine_->bytes_of_user()
         << ", \"seen\": " << engine_->seen_bytes() << ", \"users\": " << engine_->users() << "}";
    return json.str();
  }

 private:
  bool timed_;
  std::int64_t items_, before_ = 0, events_ = 0;
  int threads_;
  std::unique_ptr<Engine> engine_;
  std::vector<std::string> names_;
  std::mt19937_64 random_{0};
  std::size_t found_ = 0;
};

// A table of many items, in every precision that is asked for.
struct LargeTable {
  const float *rows, *queries;
  std::int64_t count, width, num_queries;
  std::map<std::string, std::unique_ptr<Catalogue>> packed;
  std::map<int, std::unique_ptr<Pool>> pools;
  std::int64_t next = 0;

  const Catalogue& catalogue_of(const std::string& table) {
    std::unique_ptr<Catalogue>& catalogue = packed[table];
    if (!catalogue) catalogue = std::make_unique<Catalogue>(rows, count, width, precision_of(table));
    return *catalogue;
  }
  Pool& pool_of(int threads) {
    std::unique_ptr<Pool>& pool = pools[threads];
    if (!pool) {
      pool = std::make_unique<Pool>(threads);
      pool->run(threads, [](std::int64_t) {});  // its threads keep the cores of the moment when they start
    }
    return *pool;
  }

  std::string survivors(const std::string& table, std::int64_t calls) {
    double all = 0;
    for (std::int64_t i = 0; i < calls; ++i) {
      Query q;
      q.vector = queries + i % num_queries * width;
      all += static_cast<double>(catalogue_of(table).survivors(&q, 1, kBest, pool_of(1)));
    }
    return std::to_string(all / static_cast<double>(calls));
  }

  std::string best(const std::string& table, int threads, std::int64_t batch, std::int64_t calls) {
    const Catalogue& catalogue = catalogue_of(table);
    Pool& pool = pool_of(threads);
    std::unique_ptr<OnCore> pin;
    if (threads == 1) pin = std::make_unique<OnCore>();
    std::vector<Query> asked(static_cast<std::size_t>(batch));
    std::vector<Scored> out(static_cast<std::size_t>(batch * kBest));
    std::vector<std::int64_t> found(asked.size());
    std::ostringstream json;
    json << "{\"seconds\": [";
    std::int64_t first = 0;
    for (std::int64_t i = 0; i < calls; ++i) {
      first = next;
      for (Query& q : asked) q.vector = queries + next * width, next = (next + 1) % num_queries;
      const double taken = seconds([&] { catalogue.best(asked.data(), batch, kBest, out.data(), found.data(), pool); });
      json << (i ? ", " : "") << taken;
    }
    json << "], \"first\": " << first << ", \"items\": [";
    for (std::size_t i = 0; i < out.size(); ++i) json << (i ? ", " : "") << out[i].item;
    json << "]}";
    return json.str();
  }
};

// The sum of rate(core) over all cores at once, or that of one core.
template <typename F>
double rate_of(int core, const F& rate) {
  if (core >= 0) return rate(core);
  std::vector<int> cores;
  for (int c = 0; c < CPU_SETSIZE; ++c)
    if (CPU_ISSET(c, &all_cores())) cores.push_back(c);
  Seconds rates(cores.size());
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < cores.size(); ++i) threads.emplace_back([&, i] { rates[i] = rate(cores[i]); });
  for (std::thread& thread : threads) thread.join();
  double sum = 0;
  for (const double r : rates) sum += r;
  return sum;
}

// Bytes a second of reading a block again and again.
double read_rate(std::size_t bytes, int core) {
  const OnCore pin(core);
  const std::vector<float> block(bytes / sizeof(float), 1.0f);
  typedef float Vector __attribute__((vector_size(64), aligned(4), may_alias));
  const auto* const data = reinterpret_cast<const Vector*>(block.data());
  const std::size_t count = bytes / 64 / 8 * 8, rounds = std::max<std::size_t>(1, (std::size_t{64} << 20) / bytes);
  Vector sums[8];
  for (std::size_t k = 0; k < 8; ++k) sums[k] = Vector{} + static_cast<float>(k);
  const double taken = seconds([&] {
    for (std::size_t r = 0; r < rounds; ++r)
      for (std::size_t i = 0; i < count; i += 8)
        for (std::size_t k = 0; k < 8; ++k) sums[k] += data[i + k];
  });
  float sum = 0;
  for (const Vector& s : sums) sum += s[0];
  if (sum == 0.5f) std::printf(" ");  // so that the sums are needed
  return static_cast<double>(rounds * count * 64) / taken;
}

// Multiply-adds of float32 a second, in registers.
double multiply_rate(int core) {
  const OnCore pin(core);
#if defined(__AVX512F__)
  constexpr int kLanes = 16;
#elif defined(__AVX__)
  constexpr int kLanes = 8;
#else
  constexpr int kLanes = 4;
#endif
  typedef float Vector __attribute__((vector_size(4 * kLanes)));
  constexpr int kChains = 12, kSteps = 1 << 20;
  Vector sums[kChains], factor = Vector{} + 0.5f, term = Vector{} + 1.0f;
  for (int k = 0; k < kChains; ++k) sums[k] = Vector{} + static_cast<float>(k);  // equal chains would become one
  const double taken = seconds([&] {
    for (int i = 0; i < kSteps; ++i) {
#pragma GCC unroll 12
      for (int k = 0; k < kChains; ++k) sums[k] = sums[k] * factor + term;
      asm volatile("" : "+x"(factor));
    }
  });
  float sum = 0;
  for (const Vector& s : sums) sum += s[0];
  if (sum == 0.5f) std::printf(" ");
  return static_cast<double>(kSteps) * kChains * kLanes / taken;
}

std::string listed(const Seconds& values) {
  std::ostringstream json;
  json << "[";
  for (std::size_t i = 0; i < values.size(); ++i) json << (i ? ", " : "") << values[i];
  json << "]";
  return json.str();
}

}  // namespace

int main() {
  all_cores();
  Written written;
  std::map<std::string, std::unique_ptr<Served>> engines;
  LargeTable table{};
  std::string line;
  try {
    while (std::getline(std::cin, line)) {
      std::istringstream words(line);
      std::string command, name, answer = "null";
      words >> command;
      if (command == "model") {
        words >> name;
        engines.clear();
        written = read_model(name);
      } else if (command == "engine") {
        int threads = 1;
        std::string states, precision;
        std::int64_t users = 0;
        words >> name >> threads >> states >> precision >> users;
        engines[name].reset();
        engines[name] =
            std::make_unique<Served>(written, threads, states == "bfloat16", precision_of(precision), users);
      } else if (command == "drop") {
        words >> name;
        engines.erase(name);
      } else if (command == "time") {
        std::string what;
        std::int64_t batch = 1, count = 1;
        words >> name >> what >> batch >> count;
        answer = listed(engines.at(name)->time(what, batch, count));
      } else if (command == "memory") {
        words >> name;
        answer = engines.at(name)->memory();
      } else if (command == "table") {
        words >> name >> table.count >> table.width >> table.num_queries;
        table.packed.clear();
        table.rows = numbers_of(name), table.queries = table.rows + table.count * table.width, table.next = 0;
      } else if (command == "best") {
        int threads = 1;
        std::int64_t batch = 1, count = 1;
        words >> name >> threads >> batch >> count;
        answer = table.best(name, threads, batch, count);
      } else if (command == "survivors") {
        std::int64_t count = 1;
        words >> name >> count;
        answer = table.survivors(name, count);
      } else if (command == "read") {
        std::size_t bytes = 0;
        int core = 0;
        words >> bytes >> core;
        answer = listed({rate_of(core, [&](int c) { return read_rate(bytes, c); })});
      } else if (command == "multiply") {
        int core = 0;
        words >> core;
        answer = listed({rate_of(core, multiply_rate)});
      } else {
        throw Problem("there is no command '" + line + "'", "start this program from benchmarks/engine.py");
      }
      std::printf("%s\n", answer.c_str());
      std::fflush(stdout);
    }
  } catch (const std::exception& error) {
    const auto* problem = dynamic_cast<const Problem*>(&error);
    std::fprintf(stderr, "%s\n", problem ? (problem->problem + ": " + problem->remedy).c_str() : error.what());
    return 1;
  }
}
