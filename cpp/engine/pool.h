// The engine's own threads.
#pragma once
#include <atomic>
#include <cstdint>

namespace recblr::engine {

// Threads that share the parts of one piece of work.  No thread exists before the first work that has two parts or
// more.  Idle threads sleep.
//
// Safe to use from many threads at once.  One caller at a time gets the workers.  A caller that finds them taken does
// not wait: it does all its parts itself.  So does a part that calls run().
//
// A process that was forked has none of its parent's threads.  Its first work starts new ones.  Do not fork inside a
// part.
class Pool {
 public:
  explicit Pool(int threads);  // the number that works at once, the caller's thread included; 1 or more
  ~Pool();                     // not while work runs
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  int threads() const { return threads_; }

  // Calls f(part) once for each part in [0, parts), in any order, on this thread and the workers.  Returns when all are
  // done; what they wrote is then visible here. f must not throw.  If the system refuses a thread, fewer threads work.
  template <typename F>
  void run(std::int64_t parts, const F& f) {
    run(parts, [](const void* self, std::int64_t part) { (*static_cast<const F*>(self))(part); }, &f);
  }

 private:
  struct Workers;
  using Call = void (*)(const void* self, std::int64_t part);

  void run(std::int64_t parts, Call call, const void* self);
  Workers* workers();

  int threads_;
  std::atomic<Workers*> workers_{nullptr};  // null until they are needed
};

}  // namespace recblr::engine
