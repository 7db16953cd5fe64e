// The unit with time shared among the warps of a block.  Lanes process channels, and each warp processes some rows of
// the tile of its block.
//
// The inputs of a tile are read once, into registers, while those of the next tile are in flight.  Each warp finds the
// effect of its rows on any state before them.  Through shared memory, every warp gets its first state.  Then each warp
// computes its steps from registers.  In the backward pass, states start from the nearest state that the forward pass
// kept, and the adjoint goes through the tile in the same way, against time.
//
// N is the number of channels per lane.  It decides the rows per lane, and so the order of sums; it depends on the
// shape. kWidth of these channels are read and written at once: all N if every array is aligned to that, else one.
//
// Tiles are aligned to the rows whose states are kept, counted through all sequences.  Rows of a tile outside the
// sequence are steps that change nothing.
#pragma once
#include "bdlru_gates.cuh"

namespace recblr::cuda {

constexpr int kMostWarps = 16, kLanes = 32, kMostThreads = kMostWarps * kLanes;

// The rows of a thread in a tile.  Eight numbers of each kind (four in float64) fit into registers.
template <typename T, int N>
constexpr int kTileRows = (sizeof(Accumulate<T>) == 8 ? 4 : 8) / N;
// The number of warps that process the rows between two kept states.
template <typename T, int N>
constexpr int kStretchWarps = static_cast<int>(kStateRows) / kTileRows<T, N>;

// The effect of the rows of a warp on the states of N channels: product * state + from_zero. alpha <= 1, so no product
// overflows.
template <typename A, int N>
struct alignas(2 * N * sizeof(A)) Summary {
  A product[N], from_zero[N];
  RECBLR_HD void clear() {
#pragma unroll
    for (int k = 0; k < N; ++k) product[k] = A(1), from_zero[k] = A(0);
  }
  RECBLR_HD void move(A* state) const {
#pragma unroll
    for (int k = 0; k < N; ++k) state[k] = step(product[k], state[k], from_zero[k]);
  }
};

template <int kWidth, typename T, int N>
RECBLR_HD void start_copy(Pack<T, N>& to, const T* from) {
#pragma unroll
  for (int k = 0; k < N; k += kWidth) copy_async<kWidth * sizeof(T)>(to.at + k, from + k);
}
template <int kWidth, int N, typename T>
RECBLR_HD void store_channels(T* at, const Accumulate<T> (&x)[N]) {
#pragma unroll
  for (int k = 0; k < N; k += kWidth) store_narrow<kWidth>(at + k, x + k);
}
// Reads a copied pack.  The result is zero if no copy was started.
template <typename T, int N>
RECBLR_HD void take(const Pack<T, N>& from, bool started, Accumulate<T>* x) {
#pragma unroll
  for (int k = 0; k < N; ++k) x[k] = 0;
  if (started) widen(from, x);
}

// The shared memory of a warp, by lanes: the inputs of the next tile, in flight, and the effect of its rows on states.
template <typename T, int N>
struct ForwardShare {
  Pack<T, N> x[kTileRows<T, N>][kLanes], r[kTileRows<T, N>][kLanes], i[kTileRows<T, N>][kLanes],
      z[kTileRows<T, N>][kLanes];
  Summary<Accumulate<T>, N> summaries[2][kLanes];
};
// The same for the backward pass.  It also holds the values that do not fit into registers.
template <typename T, int N>
struct BackwardShare {
  Pack<T, N> x[kTileRows<T, N>][kLanes], r[kTileRows<T, N>][kLanes], i[kTileRows<T, N>][kLanes],
      z[kTileRows<T, N>][kLanes], dy[kTileRows<T, N>][kLanes];
  Summary<Accumulate<T>, N> forward[kLanes], backward[kLanes];
  Pack<Accumulate<T>, N> to_i[kTileRows<T, N>][kLanes];
  double ddecay[N][kLanes];
};

// An array along a walk: the address of the first step and of the first channel of the block.  It lies in shared
// memory, because in registers the addresses of all arrays would leave too little room for the rows.  An absent array
// is never used.
template <typename T>
struct Base {
  T* at;
  std::int64_t time;
  RECBLR_HD void set(const View<T>& v, const Walk& walk, std::int64_t c) {
    at = v.data ? v.data + walk.plane * v.sequence + walk.row * v.time + c * v.channel : nullptr, time = v.time;
  }
  RECBLR_HD T* step(std::int64_t t, int c) const { return at + t * time + c; }
};
template <typename T>
struct ForwardBases {
  Base<const T> x, gates, z;
  Base<const Accumulate<T>> scale;
  Base<T> y;
};
template <typename T>
struct BackwardBases {
  Base<const T> x, gates, z, dy;
  Base<const Accumulate<T>> scale;
  Base<T> dx, dgates, dz;
  std::int64_t row, length, sequence, index, block;
  bool begins;
};

// The position of this thread in the work.
template <typename T, int N>
struct Place {
  std::int64_t channel_blocks, index, block, c;  // index: of the sequence or segment. c: the first of N channels
  int warps, warp, lane;                         // lane: the first of N channels, counted within the block
  bool live;                                     // whether the thread has channels
  RECBLR_HD explicit Place(const Extent& e)
      : channel_blocks((e.channels + kLanes * N - 1) / (kLanes * N)),
        index(block_index() / channel_blocks),
        block(block_index() % channel_blocks),
        warps(static_cast<int>(blockDim.x) / kLanes),
        warp(static_cast<int>(threadIdx.x) / kLanes) {
    lane = static_cast<int>(threadIdx.x % kLanes) * N;
    live = first_channel() + lane < e.channels;
    if (!live) lane = 0;
    c = first_channel() + lane;
  }
  RECBLR_HD std::int64_t first_channel() const { return block * kLanes * N; }
  RECBLR_HD std::int64_t rows() const { return static_cast<std::int64_t>(warps) * kTileRows<T, N>; }  // of a tile
};

// The rows of a thread that belong to the sequence: [first, last).
template <int kThreadRows>
struct Span {
  int first, last;
  RECBLR_HD Span(std::int64_t t, std::int64_t length)
      : first(t < -kThreadRows ? kThreadRows
              : t < 0          ? static_cast<int>(-t)
                               : 0),
        last(t > length                 ? 0
             : length - t < kThreadRows ? static_cast<int>(length - t)
                                        : kThreadRows) {}
  RECBLR_HD bool has(int j) const { return j >= first && j < last; }
  RECBLR_HD bool some() const { return first < last; }
};

// in.initial is the state before each sequence, or before each segment if there are segments.
template <typename T, int N, int kWidth>
__global__ void __launch_bounds__(kMostThreads) bdlru_warps_forward(const __grid_constant__ BdlruForward<T> w) {
  using A = Accumulate<T>;
  constexpr int kThreadRows = kTileRows<T, N>;
  RECBLR_SHARED_BYTES(shared);
  RECBLR_SHARED(ForwardBases<T>, base);
  const Extent& e = w.in.extent;
  zero_uncovered(e, w.y);
  const Place<T, N> me(e);
  if (me.index >= (e.segments ? e.segment_count : e.sequences)) return;
  const Walk walk(e, me.index);
  if (walk.sequence < 0) return;
  if (threadIdx.x == 0)
    base.x.set(w.in.x, walk, me.first_channel()), base.gates.set(w.in.gates, walk, me.first_channel()),
        base.z.set(w.in.z, walk, me.first_channel()), base.scale.set(w.in.scale, walk, 0),
        base.y.set(w.y, walk, me.first_channel());
  __syncthreads();
  const bool gated = w.in.z.data, scaled = w.in.scale.data;
  const std::int64_t row = first_row(e, walk), lead = row % kStateRows;

  auto* all = reinterpret_cast<ForwardShare<T, N>*>(shared);
  ForwardShare<T, N>& mine = all[me.warp];
  const auto lane = threadIdx.x % kLanes;
  const auto start = [&](std::int64_t first) {
    const Span<kThreadRows> span(first, walk.length);
    if (me.live && span.some()) {
      const T *x = base.x.step(first, me.lane), *r = base.gates.step(first, me.lane);
#pragma unroll
      for (int j = 0; j < kThreadRows; ++j, x += base.x.time, r += base.gates.time)
        if (span.has(j)) {
          start_copy<kWidth>(mine.x[j][lane], x);
          start_copy<kWidth>(mine.r[j][lane], r), start_copy<kWidth>(mine.i[j][lane], r + e.channels);
        }
      if (gated) {
        const T* z = base.z.step(first, me.lane);
#pragma unroll
        for (int j = 0; j < kThreadRows; ++j, z += base.z.time)
          if (span.has(j)) start_copy<kWidth>(mine.z[j][lane], z);
      }
    }
    copy_async_commit();
  };

  A decay[N], state[N];
  load_decay<N>(w.in.decay, me.c, decay);
  load_state(w.in.initial, me.index, me.c, N, state);
  int side = 0;  // which of two buffers; the barrier of the next tile makes reuse safe
  std::int64_t t = me.warp * kThreadRows - lead;
  start(t);
  for (std::int64_t tile = -lead; tile < walk.length; tile += me.rows(), t += me.rows()) {
    const Span<kThreadRows> span(t, walk.length);
    A alpha[kThreadRows][N], input[kThreadRows][N], silu[kThreadRows][N];  // h = alpha h + input, y = h silu
    Summary<A, N> summary;
    summary.clear();
    copy_async_wait<0>();
    if (span.some()) {
#pragma unroll
      for (int j = 0; j < kThreadRows; ++j) {
        if (!span.has(j)) continue;
        const A scale = scaled ? *base.scale.step(t + j, 0) : A(1);
        A x[N], r[N], i[N], z[N];
        take(mine.x[j][lane], me.live, x), take(mine.r[j][lane], me.live, r), take(mine.i[j][lane], me.live, i);
        take(mine.z[j][lane], me.live && gated, z);
#pragma unroll
        for (int k = 0; k < N; ++k) {
          const Factors<A> f = factors(r[k], decay[k] * scale);
          alpha[j][k] = f.alpha, input[j][k] = f.beta * (gate<T>(i[k]) * x[k]);
          silu[j][k] = gated ? z[k] * gate<T>(z[k]) : A(1);
          summarise(alpha[j][k], input[j][k], summary.product[k], summary.from_zero[k]);
        }
      }
    }
    start(t + me.rows());
    mine.summaries[side][lane] = summary;
    __syncthreads();
    A h[N] = {};
    for (int q = 0; q < me.warps; ++q) {
      if (q == me.warp) {
#pragma unroll
        for (int k = 0; k < N; ++k) h[k] = state[k];
      }
      all[q].summaries[side][lane].move(state);
    }
    side ^= 1;
    if (!span.some() || !me.live) continue;
    T* y = base.y.step(t, me.lane);
#pragma unroll
    for (int j = 0; j < kThreadRows; ++j, y += base.y.time) {
      if (!span.has(j)) continue;
      if ((row + t + j) % kStateRows == 0) {
        A* keep = w.states + (row + t + j) / kStateRows * e.channels + me.c;
#pragma unroll
        for (int k = 0; k < N; ++k) keep[k] = h[k];
      }
      A out[N];
#pragma unroll
      for (int k = 0; k < N; ++k) h[k] = step(alpha[j][k], h[k], input[j][k]), out[k] = h[k] * silu[j][k];
      store_channels<kWidth>(y, out);
    }
  }
  if (me.warp != 0 || !me.live || !walk.ends) return;
#pragma unroll
  for (int k = 0; k < N; ++k) w.final[walk.sequence * e.channels + me.c + k] = state[k];
}

// dfinal belongs to each sequence, or to each segment if there are segments. initial, states and dinitial belong to the
// sequences.  Here w.ddecay is (stretches, C), and dscale is (blocks of channels, rows), absent if scale is.  The
// caller sums both.
template <typename T, int N, int kWidth>
__global__ void __launch_bounds__(kMostThreads)
    bdlru_warps_backward(const __grid_constant__ BdlruBackward<T> w, double* dscale, std::int64_t rows) {
  using A = Accumulate<T>;
  constexpr int kThreadRows = kTileRows<T, N>, kStretch = kStretchWarps<T, N>;
  RECBLR_SHARED_BYTES(shared);
  RECBLR_SHARED(BackwardBases<T>, base);
  const Extent& e = w.in.extent;
  const Place<T, N> me(e);
  Extent wide = e;
  zero_uncovered(e, w.dx), zero_uncovered(e, w.dz);
  wide.channels = 2 * e.channels;
  zero_uncovered(wide, w.dgates);
  wide.channels = me.channel_blocks;
  zero_uncovered(wide, View<double>{dscale, 0, 1, rows});
  if (me.index >= (e.segments ? e.segment_count : e.sequences)) return;
  const Walk walk(e, me.index);
  if (walk.sequence < 0) {
    if (me.live && me.warp == 0)
      for (int k = 0; k < N; ++k) w.ddecay[me.index * e.channels + me.c + k] = 0;
    return;
  }
  if (threadIdx.x == 0) {
    base.x.set(w.in.x, walk, me.first_channel()), base.gates.set(w.in.gates, walk, me.first_channel()),
        base.z.set(w.in.z, walk, me.first_channel()), base.dy.set(w.dy, walk, me.first_channel());
    base.dx.set(w.dx, walk, me.first_channel()), base.dgates.set(w.dgates, walk, me.first_channel()),
        base.dz.set(w.dz, walk, me.first_channel()), base.scale.set(w.in.scale, walk, 0);
    base.row = first_row(e, walk), base.length = walk.length, base.sequence = walk.sequence, base.begins = walk.begins;
    base.index = me.index, base.block = me.block;
  }
  __syncthreads();
  const bool gated = w.in.z.data, given = w.dy.data, scaled = w.in.scale.data;

  auto* all = reinterpret_cast<BackwardShare<T, N>*>(shared);
  BackwardShare<T, N>& mine = all[me.warp];
  const auto lane = threadIdx.x % kLanes;
  // Both start copies for the tile in which the rows of this warp begin at `first`. `start` copies the arrays that are
  // needed at once; `start_late` copies those that are needed once the states are known.
  const auto start = [&](std::int64_t first) {
    const Span<kThreadRows> span(first, base.length);
    if (me.live && span.some()) {
      const T *x = base.x.step(first, me.lane), *r = base.gates.step(first, me.lane);
#pragma unroll
      for (int j = 0; j < kThreadRows; ++j, x += base.x.time, r += base.gates.time)
        if (span.has(j)) {
          start_copy<kWidth>(mine.x[j][lane], x);
          start_copy<kWidth>(mine.r[j][lane], r), start_copy<kWidth>(mine.i[j][lane], r + e.channels);
        }
    }
    copy_async_commit();
  };
  const auto start_late = [&](std::int64_t first) {
    const Span<kThreadRows> span(first, base.length);
    const auto from = [&](const Base<const T>& array, Pack<T, N>(*to)[kLanes]) {
      const T* at = array.step(first, me.lane);
#pragma unroll
      for (int j = 0; j < kThreadRows; ++j, at += array.time)
        if (span.has(j)) start_copy<kWidth>(to[j][lane], at);
    };
    if (me.live && span.some() && gated) from(base.z, mine.z);
    if (me.live && span.some() && given) from(base.dy, mine.dy);
    copy_async_commit();
  };

  A carried[N];  // dL/dh of the last step before the finished tiles
  load_state(w.dfinal, base.index, me.c, N, carried);
#pragma unroll
  for (int k = 0; k < N; ++k) mine.ddecay[k][lane] = 0;
  const int lead = static_cast<int>(base.row % kStateRows);
  std::int64_t t = (base.length + lead - 1) / me.rows() * me.rows() - lead + me.warp * kThreadRows;
  start(t), start_late(t);
  for (; t + base.row % kStateRows >= static_cast<unsigned>(me.warp * kThreadRows); t -= me.rows()) {
    const Span<kThreadRows> span(t, base.length);
    // The kept state before the rows of this warp.
    A h[N];
#pragma unroll
    for (int k = 0; k < N; ++k) h[k] = 0;
    if (span.some()) {
      const std::int64_t stretch = (base.row + t) / kStateRows;
      if (stretch * kStateRows <= base.row && base.begins) {
        load_state(w.in.initial, base.sequence, me.c, N, h);
      } else {
        const A* kept = w.states + stretch * e.channels + me.c;
#pragma unroll
        for (int k = 0; k < N; ++k) h[k] = kept[k];
      }
    }
    // to_x and to_i are the factors that turn dL/dh into dx and di. through_beta is the part of dL/du that needs no
    // state.
    A alpha[kThreadRows][N], input[kThreadRows][N], to_x[kThreadRows][N], through_beta[kThreadRows][N],
        r[kThreadRows][N];
    Summary<A, N> summary;
    summary.clear();
    copy_async_wait<1>();
    if (span.some()) {
#pragma unroll
      for (int j = 0; j < kThreadRows; ++j) {
        if (!span.has(j)) continue;
        const A scale = scaled ? *base.scale.step(t + j, 0) : A(1);
        A x[N], i[N];
        Pack<A, N> to_i;
        take(mine.x[j][lane], me.live, x), take(mine.r[j][lane], me.live, r[j]), take(mine.i[j][lane], me.live, i);
#pragma unroll
        for (int k = 0; k < N; ++k) {
          const Factors<A> f = factors(r[j][k], w.in.decay[me.c + k] * scale);
          const A open = gate<T>(i[k]), product = open * x[k];
          alpha[j][k] = f.alpha, input[j][k] = f.beta * product, r[j][k] = where_u_counts(f.u, f.r);
          to_x[j][k] = f.beta * open, to_i.at[k] = input[j][k] * (1 - open);
          through_beta[j][k] = product * (f.alpha * f.alpha * f.inverse_beta);
          summarise(alpha[j][k], input[j][k], summary.product[k], summary.from_zero[k]);
        }
        mine.to_i[j][lane] = to_i;
      }
    }
    start(t - me.rows());
    mine.forward[lane] = summary;
    __syncthreads();
    for (int q = me.warp / kStretch * kStretch; q < me.warp; ++q) all[q].forward[lane].move(h);
    A to_u[kThreadRows][N], dh[kThreadRows][N];
    copy_async_wait<1>();
#pragma unroll
    for (int k = 0; k < N; ++k) summary.from_zero[k] = 0;
    if (span.some()) {
      T* dz = gated ? base.dz.step(t, me.lane) : nullptr;
#pragma unroll
      for (int j = 0; j < kThreadRows; ++j, dz += base.dz.time) {
        if (!span.has(j)) continue;
        take(mine.dy[j][lane], me.live && given, dh[j]);
#pragma unroll
        for (int k = 0; k < N; ++k) {
          to_u[j][k] = u_slope(h[k], through_beta[j][k], alpha[j][k]);
          h[k] = step(alpha[j][k], h[k], input[j][k]);
        }
        if (!gated) continue;
        A z[N], dzt[N];
        take(mine.z[j][lane], me.live, z);
#pragma unroll
        for (int k = 0; k < N; ++k) {
          const A open = gate<T>(z[k]);
          dzt[k] = dh[j][k] * h[k] * silu_slope(z[k], open);
          dh[j][k] *= z[k] * open;
        }
        if (me.live) store_channels<kWidth>(dz, dzt);
      }
#pragma unroll
      for (int j = kThreadRows - 1; j >= 0; --j) {
        if (!span.has(j)) continue;
#pragma unroll
        for (int k = 0; k < N; ++k)
          summary.from_zero[k] = previous_adjoint(alpha[j][k], summary.from_zero[k] + dh[j][k]);
      }
    }
    start_late(t - me.rows());
    mine.backward[lane] = summary;
    __syncthreads();
    A after[N] = {};
    for (int q = me.warps - 1; q >= 0; --q) {
      if (q == me.warp) {
#pragma unroll
        for (int k = 0; k < N; ++k) after[k] = carried[k];
      }
      all[q].backward[lane].move(carried);
    }
    if (!span.some()) continue;
    A tile_sum[N] = {};
    T *dx = base.dx.step(t + kThreadRows - 1, me.lane), *dr = base.dgates.step(t + kThreadRows - 1, me.lane);
#pragma unroll
    for (int j = kThreadRows - 1; j >= 0; --j, dx -= base.dx.time, dr -= base.dgates.time) {
      if (!span.has(j)) continue;
      const A scale = scaled ? *base.scale.step(t + j, 0) : A(1);
      const Pack<A, N> to_i = mine.to_i[j][lane];
      A dxt[N], drt[N], dit[N], row_sum = 0;
#pragma unroll
      for (int k = 0; k < N; ++k) {
        const A g = dh[j][k] + after[k];
        after[k] = previous_adjoint(alpha[j][k], g);
        const A du_r = g * to_u[j][k] * r[j][k];  // times decay: dL/dscale; times scale: dL/ddecay
        dxt[k] = g * to_x[j][k], dit[k] = g * to_i.at[k],
        drt[k] = du_r * (w.in.decay[me.c + k] * scale) * (1 - r[j][k]);
        tile_sum[k] += du_r * scale, row_sum += du_r * w.in.decay[me.c + k];
      }
      if (me.live) {
        store_channels<kWidth>(dx, dxt);
        store_channels<kWidth>(dr, drt), store_channels<kWidth>(dr + e.channels, dit);
      }
      if (!scaled) continue;
      if (!me.live) row_sum = 0;
      for (int by = kLanes / 2; by > 0; by /= 2) row_sum += __shfl_xor_sync(0xffffffffu, row_sum, by);
      if (threadIdx.x % kLanes == 0) dscale[base.block * rows + base.row + t + j] = static_cast<double>(row_sum);
    }
#pragma unroll
    for (int k = 0; k < N; ++k) mine.ddecay[k][lane] += static_cast<double>(tile_sum[k]);
  }
  // The sums of the block, in the order of its warps.
  __syncthreads();
  if (me.warp != 0 || !me.live) return;
#pragma unroll
  for (int k = 0; k < N; ++k) {
    double total = 0;
    for (int q = 0; q < me.warps; ++q) total += all[q].ddecay[k][lane];
    w.ddecay[base.index * e.channels + me.c + k] = total;
    if (base.begins) w.dinitial[base.sequence * e.channels + me.c + k] = carried[k];
  }
}

}  // namespace recblr::cuda
