// The scan where sequences and channels occupy a GPU by themselves: a thread for a pack of channels of one sequence,
// serial in time, with the next steps' loads under way.
#pragma once
#include "memory.cuh"
#include "offsets.cuh"

namespace recblr::cuda {

constexpr int kRowThreads = 128, kRowStages = 8;

template <typename T, int N>
using ForwardRing = Ring<T, N, 2, kRowStages, kRowThreads>;
template <typename T, int N>
using BackwardRing = Ring<T, N, 3, kRowStages, kRowThreads>;

// N channels a thread: neighbours in memory, rows aligned to N elements, C a multiple of N; or one, however they lie.
template <typename T, int N>
__global__ void __launch_bounds__(kRowThreads) scan_rows_forward(const __grid_constant__ ScanForward<T> w) {
  using A = Accumulate<T>;
  RECBLR_SHARED_BYTES(shared);
  const Extent& e = w.extent;
  zero_uncovered(e, w.h);
  const std::int64_t packs = e.channels / N;
  if (thread_index() >= e.sequences * packs) return;
  const std::int64_t sequence = thread_index() / packs, c = thread_index() % packs * N;
  const Walk walk(e, sequence);
  const auto a = forward_stream(w.a, walk, c), b = forward_stream(w.b, walk, c);
  const auto h = forward_stream(w.h, walk, c);
  const auto fetch = [&](std::int64_t t, int array) { return array == 0 ? a.step(t) : b.step(t); };
  A state[N];
  load_state(w.initial, sequence, c, N, state);
  ForwardRing<T, N> ring(shared);
  ring.begin(walk.length, fetch);
  for (std::int64_t t = 0; t < walk.length; ++t) {
    A at[N], bt[N];
    ring.next(fetch);
    ring.get(0, at), ring.get(1, bt);
#pragma unroll
    for (int k = 0; k < N; ++k) state[k] = step(at[k], state[k], bt[k]);
    store_narrow<N>(h.step(t), state);
  }
  store_state(w.final, sequence, c, N, state);
}

template <typename T, int N>
__global__ void __launch_bounds__(kRowThreads) scan_rows_backward(const __grid_constant__ ScanBackward<T> w) {
  using A = Accumulate<T>;
  RECBLR_SHARED_BYTES(shared);
  const Extent& e = w.extent;
  zero_uncovered(e, w.da), zero_uncovered(e, w.db);
  const std::int64_t packs = e.channels / N;
  if (thread_index() >= e.sequences * packs) return;
  const std::int64_t sequence = thread_index() / packs, c = thread_index() % packs * N;
  const Walk walk(e, sequence);
  const auto dh = backward_stream(w.dh, walk, c), a = backward_stream(w.a, walk, c), h = backward_stream(w.h, walk, c);
  const auto da = backward_stream(w.da, walk, c), db = backward_stream(w.db, walk, c);
  const std::int64_t last = walk.length - 1;
  const auto fetch = [&](std::int64_t t, int array) {
    return array == 0 ? dh.step(t) : array == 1 ? a.step(t) : t < last ? h.step(t + 1) : static_cast<const T*>(nullptr);
  };
  A g[N], next_a[N];
  load_state(w.dfinal, sequence, c, N, g);
#pragma unroll
  for (int k = 0; k < N; ++k) next_a[k] = Constant<A>::one();
  BackwardRing<T, N> ring(shared);
  ring.begin(walk.length, fetch);
  for (std::int64_t t = 0; t <= last; ++t) {
    A dht[N], at[N], previous[N], dat[N];
    ring.next(fetch);
    ring.get(0, dht), ring.get(1, at);
    if (t < last)
      ring.get(2, previous);
    else
      load_state(w.initial, sequence, c, N, previous);
    // Without an initial state the first factor's derivative is zero, whatever g is.
    const bool constant = t == last && !w.initial.data;
#pragma unroll
    for (int k = 0; k < N; ++k) {
      g[k] = step_adjoint(next_a[k], g[k], dht[k]);
      dat[k] = constant ? Constant<A>::zero() : factor_adjoint(g[k], previous[k]);
      next_a[k] = at[k];
    }
    store_narrow<N>(db.step(t), g);
    store_narrow<N>(da.step(t), dat);
  }
#pragma unroll
  for (int k = 0; k < N; ++k) g[k] = previous_adjoint(next_a[k], g[k]);
  store_state(w.dinitial, sequence, c, N, g);
}

}  // namespace recblr::cuda
