// Tests the shim itself.  It must run valid kernels correctly, and end a program whose kernel would fail on a GPU.
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <functional>

#include "check.h"

#include "memory.cuh"

namespace {

using namespace check;
using namespace recblr::cuda;

const Launch kNowhere{};

struct Sums {
  float at[64];
};

void expect(bool holds, const char* what) {
  if (!holds) std::printf("%s\n", what), ++failures;
}

// Each thread adds its value to that of its neighbour (threads 0 and 1, 2 and 3, ...), through shared memory.
template <bool kBarrier>
void neighbours(const float* x, float* y) {
  RECBLR_SHARED(Sums, shared);
  shared.at[threadIdx.x] = x[thread_index()];
  if (kBarrier) __syncthreads();
  y[thread_index()] = shared.at[threadIdx.x] + shared.at[threadIdx.x ^ 1];
}

void warp_sum(const float* x, float* y) {
  float sum = x[thread_index()];
  for (int by = 16; by > 0; by /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, by);
  const float before = __shfl_up_sync(0xffffffffu, sum, 1), after = __shfl_down_sync(0xffffffffu, before, 1);
  y[thread_index()] = __shfl_sync(0xffffffffu, after, 7);
}

template <bool kWait>
void copied(const float* x, float* y) {
  RECBLR_SHARED_BYTES(shared);
  float* mine = reinterpret_cast<float*>(shared) + threadIdx.x;
  copy_async<4>(mine, x + thread_index());
  copy_async_commit();
  if (kWait) copy_async_wait<0>();
  y[thread_index()] = *mine;
}

// A copy that no thread waits for is in flight while a neighbour writes to the same place.
void abandoned(const float* x, float* y) {
  RECBLR_SHARED_BYTES(shared);
  float* all = reinterpret_cast<float*>(shared);
  copy_async<4>(all + threadIdx.x, x + thread_index());
  copy_async_commit();
  __syncthreads();
  all[threadIdx.x ^ 1] = -1;
  __syncthreads();
  y[thread_index()] = all[threadIdx.x];
}

void diverging(float*) {
  if (threadIdx.x != 5) __syncthreads();
}
void two_barriers(float*) {
  if (threadIdx.x < 32)
    __syncthreads();
  else
    __syncthreads();
}
void half_a_warp(float*) {
  if (threadIdx.x % 32 < 16) __shfl_sync(0xffffffffu, 1.0f, 0);
  __syncthreads();
}
void misaligned(float* y) { store_pack(y + 1, Pack<float, 4>{}); }

// Returns whether f() ends the program.
bool dies(const std::function<void()>& f) {
  std::fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    if (!std::freopen("/dev/null", "w", stderr)) _exit(2);
    f();
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

}  // namespace

int main() {
  std::vector<float> x(128), y(128);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i);
  const float* from = x.data();
  float* to = y.data();
  int wrong_without_barrier = 0, wrong_without_wait = 0, wrong_when_abandoned = 0;
  in_every_order([&] {
    launch<neighbours<true>>(2, 64, 0, kNowhere, from, to);
    for (std::size_t i = 0; i < 128; ++i)
      expect(y[i] == x[i] + x[i ^ 1], "a neighbour's value is not there after a barrier");
    launch<neighbours<false>>(2, 64, 0, kNowhere, from, to);
    for (std::size_t i = 0; i < 128; ++i) wrong_without_barrier += !(y[i] == x[i] + x[i ^ 1]);
    launch<warp_sum>(2, 64, 0, kNowhere, from, to);
    for (std::size_t i = 0; i < 128; ++i)
      expect(y[i] == static_cast<float>(i / 32 * 1024 + 496), "a warp's sum is wrong");
    launch<copied<true>>(2, 64, 64 * sizeof(float), kNowhere, from, to);
    expect(x == y, "an asynchronous copy has not arrived");
    launch<copied<false>>(2, 64, 64 * sizeof(float), kNowhere, from, to);
    wrong_without_wait += !(x == y);
    launch<abandoned>(2, 64, 64 * sizeof(float), kNowhere, from, to);
    wrong_when_abandoned += std::count(y.begin(), y.end(), -1.0f) < 128;
  });
  expect(wrong_without_barrier == 3 * 64, "without a barrier, half the threads must read NaN");
  expect(wrong_without_wait == 2, "without a wait, a copy must be missing in every order but the reverse one");
  expect(wrong_when_abandoned == 1, "without a wait, a copy must arrive late in one order");
  expect(dies([&] { launch<diverging>(1, 64, 0, kNowhere, to); }),
         "the shim accepts a barrier that some threads never reach");
  expect(dies([&] { launch<two_barriers>(1, 64, 0, kNowhere, to); }), "the shim accepts two barriers as one");
  expect(dies([&] { launch<half_a_warp>(1, 64, 0, kNowhere, to); }), "the shim accepts a shuffle without all lanes");
  expect(dies([&] { launch<misaligned>(1, 64, 0, kNowhere, to); }), "the shim accepts a vector that is not aligned");
  expect(!dies([&] { launch<neighbours<true>>(1, 64, 0, kNowhere, from, to); }), "a valid kernel ends the program");
  std::printf("shim: %d failures\n", failures);
  return failures ? 1 : 0;
}
