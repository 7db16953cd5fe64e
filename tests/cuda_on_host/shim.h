// Runs CUDA kernels on the host. cuda/device.cuh includes this file if the compiler is not nvcc.
//
// The threads of a block are fibers.  They run one after another, each until it waits for others.  So if a barrier is
// missing, the result is wrong in one of the orders of fibers.  Blocks run one after another, too.
//   - The program ends if some threads never reach a barrier, or if threads wait at different barriers.
//   - Shared memory is filled with NaN before each block and has exactly the requested size, so AddressSanitizer finds
//     accesses beyond it.  The stack of each fiber has a page without access below it.
//   - An asynchronous copy leaves NaN until a thread waits for it.  In reverse order it is done at once, so that a copy
//     into memory that is still being read gives a wrong result.  In shuffled order it is done at the next barrier at
//     the latest, so that a copy into memory that already has another use gives a wrong result.
//   - Approximate functions have the largest errors that the hardware allows.
//   - A vector load or store that is not aligned ends the program, just as it would end a kernel.
// x86-64 only; threads in multiples of 32.
#pragma once
#include <sys/mman.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__

namespace cuda_on_host {
struct Index {
  unsigned x, y, z;
};
}  // namespace cuda_on_host
inline cuda_on_host::Index threadIdx{}, blockIdx{}, blockDim{}, gridDim{};

namespace cuda_on_host {

enum class Order { forward, reverse, shuffled };

// A copy that has been started.  It is done when a thread waits for it.
struct Copy {
  void* to;
  const void* from;
  std::size_t bytes;
  std::int64_t group;
};

enum class Waits : std::uint8_t { nothing, warp, block, done };

struct Fiber {
  void* stack_pointer = nullptr;
  unsigned char* stack = nullptr;  // the lowest byte
  void* sanitizer = nullptr;
  Waits waits = Waits::nothing;
  std::int64_t place = 0;  // the barrier at which it waits
  std::int64_t warp_waits = 0;
  std::int64_t groups = 0;  // committed groups of copies
  std::vector<Copy> copies;
};

struct Shared {
  const void* key;
  void* memory;
};

struct Machine {
  // A test sets these.
  Order order = Order::forward;
  unsigned seed = 1;
  int multiprocessors = 132;

  // A test may read this: the number of kernels that have run.
  std::int64_t launches = 0;

  std::vector<Fiber> fibers;
  int current = -1;
  void* scheduler = nullptr;
  void* scheduler_sanitizer = nullptr;
  const void* scheduler_stack = nullptr;
  std::size_t scheduler_size = 0;
  void (*body)(const void*) = nullptr;
  const void* context = nullptr;
  std::vector<Shared> shared;
  unsigned char* bytes = nullptr;
  std::mt19937 random;

  struct alignas(16) Slot {
    unsigned char bytes[16];
  };
  std::vector<Slot> exchanged;  // (warp, parity, lane)
};
inline Machine machine;

constexpr std::size_t kStack = 64 * 1024, kPage = 4096;

[[noreturn]] inline void die(const char* what) {
  std::fprintf(stderr, "cuda_on_host: %s (block %u, thread %u)\n", what, blockIdx.x, threadIdx.x);
  std::abort();
}

// Switches from one stack to another.  It saves the registers that a call must not change, and the stack pointer.
__attribute__((naked, noipa, noinline)) inline void switch_stacks(void** /*from*/, void* /*to*/) {
  asm(R"(
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret)");
}

#if defined(__SANITIZE_ADDRESS__)
inline void leave(void** keep, const void* stack, std::size_t size) {
  __sanitizer_start_switch_fiber(keep, stack, size);
}
inline void arrive(void* kept, const void** stack, std::size_t* size) {
  __sanitizer_finish_switch_fiber(kept, stack, size);
}
inline void forget(unsigned char* stack) { __asan_unpoison_memory_region(stack, kStack); }
#else
inline void leave(void**, const void*, std::size_t) {}
inline void arrive(void*, const void**, std::size_t*) {}
inline void forget(unsigned char*) {}
#endif

inline void to_scheduler(bool for_good) {
  Machine& m = machine;
  Fiber& me = m.fibers[static_cast<std::size_t>(m.current)];
  leave(for_good ? nullptr : &me.sanitizer, m.scheduler_stack, m.scheduler_size);
  switch_stacks(&me.stack_pointer, m.scheduler);
  arrive(me.sanitizer, &m.scheduler_stack, &m.scheduler_size);
}

inline void begin_fiber() {
  Machine& m = machine;
  arrive(nullptr, &m.scheduler_stack, &m.scheduler_size);
  m.body(m.context);
  m.fibers[static_cast<std::size_t>(m.current)].waits = Waits::done;
  to_scheduler(true);
  std::abort();
}

inline void to_fiber(int thread) {
  Machine& m = machine;
  Fiber& f = m.fibers[static_cast<std::size_t>(thread)];
  m.current = thread;
  threadIdx = {static_cast<unsigned>(thread), 0, 0};
  leave(&m.scheduler_sanitizer, f.stack, kStack);
  switch_stacks(&m.scheduler, f.stack_pointer);
  arrive(m.scheduler_sanitizer, nullptr, nullptr);
}

inline void wait(Waits waits, std::int64_t place) {
  Fiber& me = machine.fibers[static_cast<std::size_t>(machine.current)];
  me.waits = waits, me.place = place;
  to_scheduler(false);
}

// Lets the fibers [begin, end) go on if all of them wait for each other.  It is an error if one has ended while others
// wait.
inline bool release(int begin, int end, Waits kind) {
  std::vector<Fiber>& f = machine.fibers;
  int waiting = 0, gone = 0;
  bool one_place = true;
  const Fiber* first = nullptr;
  for (int i = begin; i < end; ++i) {
    const Fiber& fiber = f[static_cast<std::size_t>(i)];
    gone += fiber.waits == Waits::done;
    if (fiber.waits != kind) continue;
    ++waiting;
    if (!first) first = &fiber;
    one_place = one_place && fiber.place == first->place;
  }
  if (waiting == 0 || waiting + gone < end - begin) return false;
  if (gone) die("a barrier that some threads never reach");
  if (!one_place) die("threads wait for each other at different barriers");
  for (int i = begin; i < end; ++i) f[static_cast<std::size_t>(i)].waits = Waits::nothing;
  return true;
}

inline void prepare_fiber(Fiber& f) {
  if (!f.stack) {
    void* memory = mmap(nullptr, kPage + kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED || mprotect(memory, kPage, PROT_NONE) != 0) die("no memory for the stacks");
    f.stack = static_cast<unsigned char*>(memory) + kPage;
  }
  forget(f.stack);
  f.waits = Waits::nothing, f.warp_waits = f.groups = 0, f.sanitizer = nullptr;
  f.copies.clear();
  void** top = reinterpret_cast<void**>(f.stack + kStack - 64);
  *--top = nullptr;  // the place of a caller's return address
  *--top = reinterpret_cast<void*>(&begin_fiber);
  for (int k = 0; k < 6; ++k) *--top = nullptr;
  f.stack_pointer = top;
}

inline void run_block(int threads) {
  Machine& m = machine;
  for (int i = 0; i < threads; ++i) prepare_fiber(m.fibers[static_cast<std::size_t>(i)]);
  std::vector<int> order(static_cast<std::size_t>(threads));
  for (int i = 0; i < threads; ++i)
    order[static_cast<std::size_t>(i)] = m.order == Order::reverse ? threads - 1 - i : i;
  for (;;) {
    if (m.order == Order::shuffled)
      for (std::size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[m.random() % i]);
    bool progress = false, all_done = true;
    for (int i : order) {
      const Fiber& f = m.fibers[static_cast<std::size_t>(i)];
      if (f.waits == Waits::nothing) to_fiber(i), progress = true;
    }
    for (int i = 0; i < threads; ++i) all_done = all_done && m.fibers[static_cast<std::size_t>(i)].waits == Waits::done;
    if (all_done) return;
    for (int i = 0; i < threads; i += 32) progress = release(i, i + 32, Waits::warp) || progress;
    progress = release(0, threads, Waits::block) || progress;
    if (!progress) die("threads wait for each other forever");
  }
}

// Runs body() as every thread of every block.
template <typename Body>
void run(std::int64_t blocks, int threads, std::size_t shared, const Body& body) {
  Machine& m = machine;
  if (threads <= 0 || threads > 1024 || threads % 32) die("a block has 32 to 1024 threads, in multiples of 32");
  if (shared > 227 * 1024) die("a launch asks for more shared memory than a block can have");
  ++m.launches;
  m.random.seed(m.seed);
  m.context = &body;
  m.body = [](const void* context) { (*static_cast<const Body*>(context))(); };
  if (m.fibers.size() < static_cast<std::size_t>(threads)) m.fibers.resize(static_cast<std::size_t>(threads));
  m.exchanged.resize(static_cast<std::size_t>(threads) * 2);
  gridDim = {static_cast<unsigned>(blocks), 1, 1}, blockDim = {static_cast<unsigned>(threads), 1, 1};
  for (std::int64_t n = 0; n < blocks; ++n) {
    blockIdx = {static_cast<unsigned>(m.order == Order::forward ? n : blocks - 1 - n), 0, 0};
    m.bytes = static_cast<unsigned char*>(std::malloc(shared));
    std::memset(m.bytes, 0xff, shared);
    run_block(threads);
    std::free(m.bytes);
    for (const Shared& s : m.shared) std::free(s.memory);
    m.shared.clear();
  }
}

template <typename T>
T& shared(const void* key) {
  static_assert(alignof(T) <= 16, "malloc aligns to 16 bytes");
  for (const Shared& s : machine.shared)
    if (s.key == key) return *static_cast<T*>(s.memory);
  machine.shared.push_back({key, std::malloc(sizeof(T))});
  void* memory = machine.shared.back().memory;
  std::memset(memory, 0xff, sizeof(T));
  return *static_cast<T*>(memory);
}
inline unsigned char* shared_bytes() { return machine.bytes; }

// Publishes the value of every lane and returns the value of lane `source`.
template <typename T>
T exchange(unsigned mask, T value, int source) {
  static_assert(sizeof(T) <= 8, "a shuffle moves 4 or 8 bytes");
  if (mask != 0xffffffffu) die("a shuffle must include all lanes");
  Machine& m = machine;
  Fiber& me = m.fibers[static_cast<std::size_t>(m.current)];
  // Two buffers are used in turn: a lane that has read one may write the next value while another lane still reads.
  Machine::Slot* slots = m.exchanged.data() + (m.current / 32 * 2 + me.warp_waits++ % 2) * 32;
  std::memcpy(&slots[m.current % 32], &value, sizeof value);
  wait(Waits::warp, -static_cast<std::int64_t>(sizeof value));
  std::memcpy(&value, &slots[source], sizeof value);
  return value;
}

// Checks the alignment of a vector or of an asynchronous copy.
inline void expect_aligned(const void* at, std::size_t bytes) {
  if (reinterpret_cast<std::uintptr_t>(at) % bytes) die("a load, store or copy is not aligned");
}

inline void copy_async(void* to, const void* from, std::size_t bytes) {
  expect_aligned(to, bytes), expect_aligned(from, bytes);
  if (bytes != 4 && bytes != 8 && bytes != 16) die("an asynchronous copy moves 4, 8 or 16 bytes");
  Fiber& me = machine.fibers[static_cast<std::size_t>(machine.current)];
  if (machine.order == Order::reverse) {
    std::memcpy(to, from, bytes);
    return;
  }
  std::memset(to, 0xff, bytes);
  me.copies.push_back({to, from, bytes, me.groups});
}
inline void copy_async_commit() { ++machine.fibers[static_cast<std::size_t>(machine.current)].groups; }
// Waits until at most `pending` of the committed groups are in flight.
inline void copy_async_wait(int pending) {
  Fiber& me = machine.fibers[static_cast<std::size_t>(machine.current)];
  std::size_t kept = 0;
  for (const Copy& c : me.copies) {
    if (c.group < me.groups - pending)
      std::memcpy(c.to, c.from, c.bytes);
    else
      me.copies[kept++] = c;
  }
  me.copies.resize(kept);
}

inline void block_barrier(int place) {
  wait(Waits::block, place);
  if (machine.order == Order::shuffled) copy_async_wait(0);
}

// x with a relative error of up to `error`.  For half of all arguments the error has its largest size, in either
// direction.
inline float approximate(double x, double error) {
  std::uint64_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  bits = (bits + machine.seed) * 0x9e3779b97f4a7c15u;
  const double wrong[] = {-1, -0.3, 0.3, 1};
  return static_cast<float>(x * (1 + wrong[bits >> 62] * error));
}
inline float flush(float x) { return std::fabs(x) < 0x1p-126f ? std::copysign(0.0f, x) : x; }

}  // namespace cuda_on_host

#define __syncthreads() ::cuda_on_host::block_barrier(__LINE__)
#define __syncwarp(...) ::cuda_on_host::wait(::cuda_on_host::Waits::warp, __LINE__)

inline float __fmaf_rn(float x, float y, float z) { return std::fma(x, y, z); }
inline double __fma_rn(double x, double y, double z) { return std::fma(x, y, z); }

template <typename T>
T __shfl_sync(unsigned mask, T value, int source) {
  return ::cuda_on_host::exchange(mask, value, source & 31);
}
template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned by) {
  const int lane = ::cuda_on_host::machine.current % 32;
  return ::cuda_on_host::exchange(mask, value, lane < static_cast<int>(by) ? lane : lane - static_cast<int>(by));
}
template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned by) {
  const int lane = ::cuda_on_host::machine.current % 32;
  return ::cuda_on_host::exchange(mask, value, lane + static_cast<int>(by) > 31 ? lane : lane + static_cast<int>(by));
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int bits) {
  return ::cuda_on_host::exchange(mask, value, ::cuda_on_host::machine.current % 32 ^ bits);
}
