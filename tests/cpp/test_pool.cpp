// The engine's threads: every part runs once, at the same time as others, for several callers, for a part that calls
// again, and in a process that was forked.
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <thread>
#include <vector>

#include "engine/pool.h"

namespace {

using recblr::engine::Pool;

int failures = 0;

void expect(bool right, const char* what) {
  if (right) return;
  std::printf("wrong: %s\n", what);
  ++failures;
}

bool each_part_once(Pool& pool, std::int64_t parts) {
  std::vector<int> calls(static_cast<std::size_t>(parts));  // not atomic: ThreadSanitizer finds two calls of a part
  pool.run(parts, [&](std::int64_t part) { ++calls[static_cast<std::size_t>(part)]; });
  for (int n : calls)
    if (n != 1) return false;
  return true;
}

// Whether as many parts run at the same time as the pool has threads: each waits for the others, for ten seconds.
bool at_once(Pool& pool) {
  std::atomic<int> here{0};
  std::atomic<bool> late{false};
  pool.run(pool.threads(), [&](std::int64_t) {
    const auto begin = std::chrono::steady_clock::now();
    ++here;
    while (here < pool.threads() && !late) {
      std::this_thread::yield();
      if (std::chrono::steady_clock::now() - begin > std::chrono::seconds(10)) late = true;
    }
  });
  return !late;
}

int threads_of_this_process() {
  std::FILE* status = std::fopen("/proc/self/status", "r");
  char line[256];
  int count = -1;
  while (status && std::fgets(line, sizeof line, status)) std::sscanf(line, "Threads: %d", &count);
  if (status) std::fclose(status);
  return count;
}

void parts() {
  const int before = threads_of_this_process();
  Pool pool(4);
  pool.run(1, [](std::int64_t) {});
  expect(threads_of_this_process() == before, "a pool without work has no threads");
  for (const std::int64_t count : {0, 1, 2, 3, 4, 5, 100, 10000})
    expect(each_part_once(pool, count), "each part runs once");
  for (int n = 0; n < 3000; ++n)
    if (!each_part_once(pool, n % 7)) return expect(false, "each part runs once, many times");
  expect(at_once(pool), "parts run at the same time");
  Pool alone(1), none(0);
  expect(each_part_once(alone, 10) && alone.threads() == 1, "one thread runs all parts");
  expect(each_part_once(none, 10) && none.threads() == 1, "a pool has one thread at least");
  expect(before < 0 || threads_of_this_process() == before + 3, "a pool starts its threads once");
}

void calls_inside_a_part() {
  Pool pool(3);
  std::atomic<int> calls{0};
  pool.run(5, [&](std::int64_t) { pool.run(7, [&](std::int64_t) { ++calls; }); });
  expect(calls == 35, "a part may call again");
}

void several_callers() {
  Pool pool(3);
  std::atomic<int> wrong{0};
  std::vector<std::thread> callers;
  for (int n = 0; n < 4; ++n)
    callers.emplace_back([&] {
      for (int i = 0; i < 500; ++i) wrong += !each_part_once(pool, 1 + i % 20);
    });
  for (std::thread& caller : callers) caller.join();
  expect(wrong == 0, "callers do not disturb each other");
  expect(at_once(pool), "the workers are free again");
}

void idle_threads_sleep() {
  Pool pool(3);
  each_part_once(pool, 100);
  const std::clock_t before = std::clock();
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  expect(std::clock() - before < CLOCKS_PER_SEC / 20, "idle threads sleep");
}

void forked() {
#if !defined(__SANITIZE_THREAD__)  // ThreadSanitizer lets no child start threads
  Pool pool(3);
  expect(at_once(pool), "parts run at the same time");
  const pid_t child = fork();
  if (child == 0) {
    bool right = at_once(pool) && each_part_once(pool, 1000);
    const pid_t grandchild = fork();
    if (grandchild == 0) _exit(at_once(pool) ? 0 : 1);
    int status = 1;
    waitpid(grandchild, &status, 0);
    right = right && status == 0;
    pool.~Pool();
    _exit(right ? 0 : 1);
  }
  int status = 1;
  waitpid(child, &status, 0);
  expect(status == 0, "a child has threads of its own");
  expect(at_once(pool), "the parent's threads still work");
  const pid_t unused = fork();
  if (unused == 0) {
    pool.~Pool();  // without work in the child: there is nobody to wait for
    _exit(0);
  }
  waitpid(unused, &status, 0);
  expect(status == 0, "a child ends a pool that it did not use");
#endif
}

}  // namespace

int main() {
  parts();
  calls_inside_a_part();
  several_callers();
  idle_threads_sleep();
  forked();
  std::printf("pool: %d failures\n", failures);
  return failures ? 1 : 0;
}
