#include "engine/pool.h"

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace recblr::engine {
namespace {

// How often this process, or a parent of it, was forked into the process that runs now.
std::atomic<int> generation{0};

// Worker threads block all signals, so that the program's own threads handle them.
class BlockSignals {
 public:
  BlockSignals() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~BlockSignals() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_;
};

}  // namespace

struct Pool::Workers {
  const int born = generation.load();
  std::atomic<bool> taken{false};  // by a caller of run()

  std::mutex mutex;                    // guards what follows, except `next`
  std::condition_variable work, done;  // there is work, or the end; no worker is busy
  Call call = nullptr;                 // null: there is no work
  const void* self = nullptr;
  std::int64_t parts = 0;
  std::atomic<std::int64_t> next{0};  // the first part that no thread has taken
  int busy = 0;
  bool end = false;
  std::vector<std::thread> threads;

  void take_parts(Call f, const void* with, std::int64_t count) {
    for (std::int64_t part; (part = next.fetch_add(1, std::memory_order_relaxed)) < count;) f(with, part);
  }

  void serve() {
    std::unique_lock<std::mutex> lock(mutex);
    for (;;) {
      work.wait(lock, [&] { return end || (call && next.load(std::memory_order_relaxed) < parts); });
      if (end) return;
      const Call f = call;
      const void* with = self;
      const std::int64_t count = parts;
      ++busy;
      lock.unlock();
      take_parts(f, with, count);
      lock.lock();
      if (--busy == 0) done.notify_one();
    }
  }

  void start(int count) {
    const BlockSignals blocked;
    try {
      while (static_cast<int>(threads.size()) < count) threads.emplace_back([this] { serve(); });
    } catch (const std::system_error&) {  // the caller's thread does the work of the missing ones
    }
  }

  void run(Call f, const void* with, std::int64_t count, int most) {
    const int helpers = static_cast<int>(std::min<std::int64_t>(most, count) - 1);
    if (static_cast<int>(threads.size()) < helpers) start(helpers);
    {
      const std::lock_guard<std::mutex> lock(mutex);
      call = f, self = with, parts = count;
      next.store(0, std::memory_order_relaxed);
    }
    for (int n = 0; n < helpers; ++n) work.notify_one();
    take_parts(f, with, count);
    std::unique_lock<std::mutex> lock(mutex);
    call = nullptr;  // a worker that wakes only now sleeps again
    done.wait(lock, [&] { return busy == 0; });
  }
};

Pool::Pool(int threads) : threads_(std::max(threads, 1)) {
  static std::once_flag once;
  std::call_once(once, [] { pthread_atfork(nullptr, nullptr, [] { generation.fetch_add(1); }); });
}

Pool::~Pool() {
  Workers* w = workers_.load();
  if (!w || w->born != generation.load()) return;  // the parent's threads: there is nothing here to end
  {
    const std::lock_guard<std::mutex> lock(w->mutex);
    w->end = true;
  }
  w->work.notify_all();
  for (std::thread& thread : w->threads) thread.join();
  delete w;
}

// This process's workers.  After a fork, those of the parent stay in memory: their locks may be closed, so they cannot
// be destroyed.
Pool::Workers* Pool::workers() {
  Workers* found = workers_.load(std::memory_order_acquire);
  if (found && found->born == generation.load(std::memory_order_relaxed)) return found;
  Workers* fresh = new Workers;
  if (workers_.compare_exchange_strong(found, fresh)) return fresh;
  delete fresh;  // another thread was faster
  return found;
}

void Pool::run(std::int64_t parts, Call call, const void* self) {
  if (parts > 1 && threads_ > 1) {
    Workers* w = workers();
    if (!w->taken.exchange(true, std::memory_order_acquire)) {
      w->run(call, self, parts, threads_);
      w->taken.store(false, std::memory_order_release);
      return;
    }
  }
  for (std::int64_t part = 0; part < parts; ++part) call(self, part);
}

}  // namespace recblr::engine
