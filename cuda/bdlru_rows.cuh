// The unit for shapes whose sequences and channels alone occupy a GPU.  Each thread processes a pack of channels of one
// sequence, serially in time, while the loads of the next steps are in flight.
//
// This is only the forward pass.  In the backward pass, one thread alone would have to keep 32 recomputed states, or
// read the inputs twice.  The warps of bdlru_warps.cuh process one stretch at a time and need neither.
#pragma once
#include "bdlru_gates.cuh"

namespace recblr::cuda {

constexpr int kUnitThreads = 128, kUnitStages = 5;

template <typename T, int N>
using UnitRing = Ring<T, N, 4, kUnitStages, kUnitThreads>;

// N channels per thread.  Rows are aligned to N elements, and C is a multiple of N.
template <typename T, int N>
__global__ void __launch_bounds__(kUnitThreads) bdlru_rows_forward(const __grid_constant__ BdlruForward<T> w) {
  using A = Accumulate<T>;
  RECBLR_SHARED_BYTES(shared);
  const Extent& e = w.in.extent;
  zero_uncovered(e, w.y);
  const std::int64_t packs = e.channels / N;
  if (thread_index() >= e.sequences * packs) return;
  const std::int64_t sequence = thread_index() / packs, c = thread_index() % packs * N;
  const Walk walk(e, sequence);
  const Rows<T> in(w.in, walk, c);
  const Stream<T> y = forward_stream(w.y, walk, c);
  const bool gated = w.in.z.data;
  const auto fetch = [&](std::int64_t t, int array) {
    return array == 0   ? in.x.step(t)
           : array == 1 ? in.r.step(t)
           : array == 2 ? in.i.step(t)
           : gated      ? in.z.step(t)
                        : nullptr;
  };
  A decay[N], h[N];
  load_decay<N>(w.in.decay, c, decay);
  load_state(w.in.initial, sequence, c, N, h);
  const std::int64_t row = first_row(e, walk);
  UnitRing<T, N> ring(shared);
  ring.begin(walk.length, fetch);
  for (std::int64_t t = 0; t < walk.length; ++t) {
    A x[N], r[N], i[N], out[N];
    const A scale = in.scale_at(t);
    ring.next(fetch);
    ring.get(0, x), ring.get(1, r), ring.get(2, i);
    if ((row + t) % kStateRows == 0) {
      A* keep = w.states + (row + t) / kStateRows * e.channels + c;
#pragma unroll
      for (int k = 0; k < N; ++k) keep[k] = h[k];
    }
#pragma unroll
    for (int k = 0; k < N; ++k) {
      const Factors<A> f = factors(r[k], decay[k] * scale);
      out[k] = h[k] = step(f.alpha, h[k], f.beta * (gate<T>(i[k]) * x[k]));
    }
    if (gated) {
      A z[N];
      ring.get(3, z);
#pragma unroll
      for (int k = 0; k < N; ++k) out[k] *= z[k] * gate<T>(z[k]);
    }
    store_narrow<N>(y.step(t), out);
  }
#pragma unroll
  for (int k = 0; k < N; ++k) w.final[sequence * e.channels + c + k] = h[k];
}

}  // namespace recblr::cuda
