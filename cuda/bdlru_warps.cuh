// The unit with time shared out among a block's warps: lanes over channels, each warp some rows of the block's tile.
//
// A tile's inputs are read once, into registers, while the next tile's are on their way.  Each warp finds what its rows do
// to any state before them; through shared memory, all learn the states that they start from; then each does its steps
// from registers.  Backward, states come from the nearest that the forward pass kept, and the adjoint goes the same way
// through the tile against time.
//
// Tiles are aligned to the rows whose states are kept, counted through all sequences; rows of a tile outside the sequence
// are steps that change nothing.
#pragma once
#include "bdlru_gates.cuh"

namespace recblr::cuda {

constexpr int kMostWarps = 16, kWarpThreads = 32;

// A thread's rows of a tile: eight numbers of each kind fit into registers.
template <typename T, int N>
constexpr int kTileRows = (sizeof(Accumulate<T>) == 8 ? 4 : 8) / N;
// Warps for as many rows as one kept state serves.
template <typename T, int N>
constexpr int kStretchWarps = static_cast<int>(kStateRows) / kTileRows<T, N>;

// What a warp's rows do to N channels' states: product * state + from_zero.  alpha <= 1, so that no product overflows.
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

// A thread's packs of the next tile, on their way into shared memory.
template <typename T, int N>
class Slots {
  using Element = Pack<T, N>;

 public:
  static std::size_t bytes(int count, int threads) { return sizeof(Element) * static_cast<std::size_t>(count * threads); }
  RECBLR_HD explicit Slots(unsigned char* shared) : mine_(reinterpret_cast<Element*>(shared) + threadIdx.x) {}
  RECBLR_HD void start(int slot, const T* from) { copy_async<sizeof(Element)>(mine_ + slot * blockDim.x, from); }
  // Zeros where nothing was started.
  RECBLR_HD void take(int slot, bool started, Accumulate<T>* x) const {
#pragma unroll
    for (int k = 0; k < N; ++k) x[k] = 0;
    if (started) widen(mine_[slot * blockDim.x], x);
  }

 private:
  Element* mine_;
};

// Row after row of an array, from step t of a walk on.  Channels are neighbours.
template <typename T>
struct Line {
  T* at;
  std::int64_t time;
  RECBLR_HD Line(const View<T>& v, const Walk& walk, std::int64_t t, std::int64_t c)
      : at(v.data ? v.data + walk.plane * v.sequence + (walk.row + t) * v.time + c : nullptr), time(v.time) {}
  RECBLR_HD void next() {
    if (at) at += time;
  }
  RECBLR_HD void back() { at -= time; }
};

template <typename A>
RECBLR_HD A row_scale(const View<const A>& scale, const Walk& walk, std::int64_t t) {
  return scale.data ? *Line<const A>(scale, walk, t, 0).at : A(1);
}

// Which thread of which block's work this is.
template <typename T, int N>
struct Place {
  std::int64_t channel_blocks, index, block, c;  // index: of the sequence or segment; c: the first of N channels
  int warps, warp;
  bool live;  // has channels
  RECBLR_HD explicit Place(const Extent& e)
      : channel_blocks((e.channels + kWarpThreads * N - 1) / (kWarpThreads * N)), index(block_index() / channel_blocks),
        block(block_index() % channel_blocks), warps(static_cast<int>(blockDim.x) / kWarpThreads),
        warp(static_cast<int>(threadIdx.x) / kWarpThreads) {
    c = (block * kWarpThreads + threadIdx.x % kWarpThreads) * N;
    live = c < e.channels;
    if (!live) c = 0;
  }
  RECBLR_HD std::int64_t rows() const { return static_cast<std::int64_t>(warps) * kTileRows<T, N>; }  // of a tile
};

template <typename T, int N>
std::size_t forward_bytes(int threads) {
  return Slots<T, N>::bytes(4 * kTileRows<T, N>, threads) + 2 * sizeof(Summary<Accumulate<T>, N>) * static_cast<std::size_t>(threads);
}
template <typename T, int N>
std::size_t backward_bytes(int threads) {
  return Slots<T, N>::bytes(5 * kTileRows<T, N>, threads) + 2 * sizeof(Summary<Accumulate<T>, N>) * static_cast<std::size_t>(threads);
}

// in.initial is that of each sequence, or segment.
template <typename T, int N>
__global__ void __launch_bounds__(kMostWarps * kWarpThreads) bdlru_warps_forward(const __grid_constant__ BdlruForward<T> w) {
  using A = Accumulate<T>;
  constexpr int kRows = kTileRows<T, N>;
  RECBLR_SHARED_BYTES(shared);
  const Extent& e = w.in.extent;
  zero_uncovered(e, w.y);
  const Place<T, N> me(e);
  if (me.index >= (e.segments ? e.segment_count : e.sequences)) return;
  const Walk walk(e, me.index);
  if (walk.sequence < 0) return;
  const bool gated = w.in.z.data;
  const std::int64_t row = first_row(e, walk);
  const auto there = [&](std::int64_t t) { return t >= 0 && t < walk.length; };

  Slots<T, N> slots(shared);
  auto* summaries = reinterpret_cast<Summary<A, N>*>(shared + sizeof(Pack<T, N>) * 4 * kRows * blockDim.x) + threadIdx.x % kWarpThreads;
  const auto start = [&](std::int64_t first) {
    Line<const T> x(w.in.x, walk, first, me.c), r(w.in.gates, walk, first, me.c), z(w.in.z, walk, first, me.c);
#pragma unroll
    for (int j = 0; j < kRows; ++j, x.next(), r.next(), z.next()) {
      if (!me.live || !there(first + j)) continue;
      slots.start(4 * j, x.at), slots.start(4 * j + 1, r.at), slots.start(4 * j + 2, r.at + e.channels);
      if (gated) slots.start(4 * j + 3, z.at);
    }
    copy_async_commit();
  };

  const auto scale_at = [&](std::int64_t t) { return there(t) ? row_scale(w.in.scale, walk, t) : A(0); };

  A decay[N], state[N];
  load_decay<N>(w.in.decay, me.c, decay);
  load_state(w.in.initial, me.index, me.c, N, state);
  int other = static_cast<int>(blockDim.x);
  const std::int64_t lead = row % kStateRows;
  std::int64_t t = me.warp * kRows - lead;
  start(t);
  for (std::int64_t tile = -lead; tile < walk.length; tile += me.rows(), t += me.rows()) {
    const bool some = t > -kRows && t < walk.length;
    A alpha[kRows][N], input[kRows][N], silu[kRows][N];  // h = alpha h + input, y = h silu
    Summary<A, N> mine;
    mine.clear();
    copy_async_wait<0>();
    if (some) {
#pragma unroll
      for (int j = 0; j < kRows; ++j) {
        const bool started = me.live && there(t + j);
        const A scale = scale_at(t + j);
        A x[N], r[N], i[N], z[N];
        slots.take(4 * j, started, x), slots.take(4 * j + 1, started, r), slots.take(4 * j + 2, started, i);
        slots.take(4 * j + 3, started && gated, z);
#pragma unroll
        for (int k = 0; k < N; ++k) {
          const Factors<A> f = factors(r[k], decay[k] * scale);
          alpha[j][k] = f.alpha, input[j][k] = f.beta * (gate<T>(i[k]) * x[k]);
          silu[j][k] = gated ? z[k] * gate<T>(z[k]) : A(1);
          summarise(alpha[j][k], input[j][k], mine.product[k], mine.from_zero[k]);
        }
      }
    }
    start(t + me.rows());
    summaries[me.warp * kWarpThreads] = mine;
    __syncthreads();
    A h[N] = {};
    for (int q = 0; q < me.warps; ++q) {
      if (q == me.warp) {
#pragma unroll
        for (int k = 0; k < N; ++k) h[k] = state[k];
      }
      summaries[q * kWarpThreads].move(state);
    }
    // The next tile's summaries go elsewhere, and those after them come behind its barrier.
    summaries += other;
    other = -other;
    if (!some || !me.live) continue;
    Line<T> y(w.y, walk, t, me.c);
#pragma unroll
    for (int j = 0; j < kRows; ++j, y.next()) {
      if (!there(t + j)) continue;
      if ((row + t + j) % kStateRows == 0) {
        A* keep = w.states + (row + t + j) / kStateRows * e.channels + me.c;
#pragma unroll
        for (int k = 0; k < N; ++k) keep[k] = h[k];
      }
      A out[N];
#pragma unroll
      for (int k = 0; k < N; ++k) h[k] = step(alpha[j][k], h[k], input[j][k]), out[k] = h[k] * silu[j][k];
      store_narrow<N>(y.at, out);
    }
  }
  if (me.warp != 0 || !me.live || !walk.ends) return;
#pragma unroll
  for (int k = 0; k < N; ++k) w.final[walk.sequence * e.channels + me.c + k] = state[k];
}

// dfinal is that of each sequence, or segment; initial, states and dinitial are the sequence's.  w.ddecay is here
// (stretches, C), and dscale, absent where scale is, (blocks of channels, rows): to be summed.
template <typename T, int N>
__global__ void __launch_bounds__(kMostWarps * kWarpThreads)
    bdlru_warps_backward(const __grid_constant__ BdlruBackward<T> w, double* dscale, std::int64_t rows) {
  using A = Accumulate<T>;
  constexpr int kRows = kTileRows<T, N>, kStretch = kStretchWarps<T, N>;
  RECBLR_SHARED_BYTES(shared);
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
  double* ddecay = w.ddecay + me.index * e.channels + me.c;
  if (walk.sequence < 0) {
    if (me.live && me.warp == 0)
      for (int k = 0; k < N; ++k) ddecay[k] = 0;
    return;
  }
  const bool gated = w.in.z.data, given = w.dy.data;
  const std::int64_t row = first_row(e, walk), lead = row % kStateRows;
  const auto there = [&](std::int64_t t) { return t >= 0 && t < walk.length; };

  Slots<T, N> slots(shared);
  auto* forward = reinterpret_cast<Summary<A, N>*>(shared + sizeof(Pack<T, N>) * 5 * kRows * blockDim.x) + threadIdx.x % kWarpThreads;
  auto* backward = forward + blockDim.x;
  // Of a tile whose rows begin at `first`: what is needed at once, and what is once the states are known.
  const auto start = [&](std::int64_t first, bool late) {
    if (late) {
      Line<const T> z(w.in.z, walk, first, me.c), dy(w.dy, walk, first, me.c);
#pragma unroll
      for (int j = 0; j < kRows; ++j, z.next(), dy.next()) {
        if (!me.live || !there(first + j)) continue;
        if (gated) slots.start(5 * j + 3, z.at);
        if (given) slots.start(5 * j + 4, dy.at);
      }
    } else {
      Line<const T> x(w.in.x, walk, first, me.c), r(w.in.gates, walk, first, me.c);
#pragma unroll
      for (int j = 0; j < kRows; ++j, x.next(), r.next()) {
        if (!me.live || !there(first + j)) continue;
        slots.start(5 * j, x.at), slots.start(5 * j + 1, r.at), slots.start(5 * j + 2, r.at + e.channels);
      }
    }
    copy_async_commit();
  };
  const auto scale_at = [&](std::int64_t t) { return there(t) ? row_scale(w.in.scale, walk, t) : A(0); };

  A decay[N], carried[N];  // dL/dh of the last step before the tiles that are done
  double sum[N];
  load_decay<N>(w.in.decay, me.c, decay);
  load_state(w.dfinal, me.index, me.c, N, carried);
#pragma unroll
  for (int k = 0; k < N; ++k) sum[k] = 0;
  std::int64_t tile = (walk.length + lead - 1) / me.rows() * me.rows() - lead;
  start(tile + me.warp * kRows, false), start(tile + me.warp * kRows, true);
  for (; tile >= -lead; tile -= me.rows()) {
    const std::int64_t t = tile + me.warp * kRows, stretch = tile + me.warp / kStretch * kStateRows;
    const bool some = t > -kRows && t < walk.length;
    // The state before the stretch.
    A h[N];
#pragma unroll
    for (int k = 0; k < N; ++k) h[k] = 0;
    if (some && stretch <= 0 && walk.begins) {
      load_state(w.in.initial, walk.sequence, me.c, N, h);
    } else if (some) {
      const A* kept = w.states + (row + stretch) / kStateRows * e.channels + me.c;
#pragma unroll
      for (int k = 0; k < N; ++k) h[k] = kept[k];
    }
    // to_x, to_i: what dL/dh is multiplied by to give dx and di.  through_beta: of dL/du, the part that needs no state.
    A alpha[kRows][N], input[kRows][N], to_x[kRows][N], to_i[kRows][N], through_beta[kRows][N], r[kRows][N];
    Summary<A, N> mine;
    mine.clear();
    copy_async_wait<1>();
    if (some) {
#pragma unroll
      for (int j = 0; j < kRows; ++j) {
        const bool started = me.live && there(t + j);
        const A scale = scale_at(t + j);
        A x[N], i[N];
        slots.take(5 * j, started, x), slots.take(5 * j + 1, started, r[j]), slots.take(5 * j + 2, started, i);
#pragma unroll
        for (int k = 0; k < N; ++k) {
          const Factors<A> f = factors(r[j][k], decay[k] * scale);
          const A open = gate<T>(i[k]), product = open * x[k];
          alpha[j][k] = f.alpha, input[j][k] = f.beta * product, r[j][k] = f.r;
          to_x[j][k] = f.beta * open, to_i[j][k] = input[j][k] * (1 - open);
          through_beta[j][k] = product * (f.alpha * f.alpha * f.inverse_beta);
          summarise(alpha[j][k], input[j][k], mine.product[k], mine.from_zero[k]);
        }
      }
    }
    start(t - me.rows(), false);
    forward[me.warp * kWarpThreads] = mine;
    __syncthreads();
    for (int q = me.warp / kStretch * kStretch; q < me.warp; ++q) forward[q * kWarpThreads].move(h);
    A to_u[kRows][N], dh[kRows][N];
    copy_async_wait<1>();
    if (some) {
      Line<T> dz(w.dz, walk, t, me.c);
#pragma unroll
      for (int j = 0; j < kRows; ++j, dz.next()) {
        const bool started = me.live && there(t + j);
        const A scale = scale_at(t + j);
        A z[N], dzt[N];
        slots.take(5 * j + 3, started && gated, z), slots.take(5 * j + 4, started && given, dh[j]);
#pragma unroll
        for (int k = 0; k < N; ++k) {
          to_u[j][k] = u_adjoint(A(1), h[k], through_beta[j][k], alpha[j][k], A(1), decay[k] * scale * r[j][k]);
          h[k] = step(alpha[j][k], h[k], input[j][k]);
          if (gated) {
            const A open = gate<T>(z[k]);
            dzt[k] = dh[j][k] * h[k] * silu_slope(z[k], open);
            dh[j][k] *= z[k] * open;
          }
        }
        if (gated && started) store_narrow<N>(dz.at, dzt);
      }
#pragma unroll
      for (int k = 0; k < N; ++k) {
        mine.from_zero[k] = 0;
#pragma unroll
        for (int j = kRows - 1; j >= 0; --j) mine.from_zero[k] = previous_adjoint(alpha[j][k], mine.from_zero[k] + dh[j][k]);
      }
    }
    start(t - me.rows(), true);
    backward[me.warp * kWarpThreads] = mine;
    __syncthreads();
    A after[N] = {};
    for (int q = me.warps - 1; q >= 0; --q) {
      if (q == me.warp) {
#pragma unroll
        for (int k = 0; k < N; ++k) after[k] = carried[k];
      }
      backward[q * kWarpThreads].move(carried);
    }
    A row_sum[kRows], tile_sum[N];
#pragma unroll
    for (int j = 0; j < kRows; ++j) row_sum[j] = 0;
    if (some) {
#pragma unroll
      for (int k = 0; k < N; ++k) tile_sum[k] = 0;
      Line<T> dx(w.dx, walk, t + kRows - 1, me.c), dr(w.dgates, walk, t + kRows - 1, me.c);
#pragma unroll
      for (int j = kRows - 1; j >= 0; --j, dx.back(), dr.back()) {
        const A scale = scale_at(t + j);
        A dxt[N], drt[N], dit[N];
#pragma unroll
        for (int k = 0; k < N; ++k) {
          const A g = dh[j][k] + after[k];
          after[k] = previous_adjoint(alpha[j][k], g);
          const A du_r = g * to_u[j][k] * r[j][k];  // times decay: by scale; times scale: by decay
          dxt[k] = g * to_x[j][k], dit[k] = g * to_i[j][k], drt[k] = du_r * (decay[k] * scale) * (1 - r[j][k]);
          tile_sum[k] += du_r * scale, row_sum[j] += du_r * decay[k];
        }
        if (!me.live || !there(t + j)) continue;
        store_narrow<N>(dx.at, dxt), store_narrow<N>(dr.at, drt), store_narrow<N>(dr.at + e.channels, dit);
      }
#pragma unroll
      for (int k = 0; k < N; ++k) sum[k] += static_cast<double>(tile_sum[k]);
    }
    if (dscale && some) {
#pragma unroll
      for (int j = 0; j < kRows; ++j) {
        A total = me.live ? row_sum[j] : A(0);
        for (int by = kWarpThreads / 2; by > 0; by /= 2) total += __shfl_xor_sync(0xffffffffu, total, by);
        if (threadIdx.x % kWarpThreads == 0 && there(t + j)) dscale[me.block * rows + row + t + j] = static_cast<double>(total);
      }
    }
  }
  // The block's sums, in the order of its warps.
  struct Sum {
    double at[N];
  };
  __syncthreads();
  auto* sums = reinterpret_cast<Sum*>(forward - threadIdx.x % kWarpThreads) + threadIdx.x % kWarpThreads;
#pragma unroll
  for (int k = 0; k < N; ++k) sums[me.warp * kWarpThreads].at[k] = sum[k];
  __syncthreads();
  if (me.warp != 0 || !me.live) return;
#pragma unroll
  for (int k = 0; k < N; ++k) {
    double total = 0;
    for (int q = 0; q < me.warps; ++q) total += sums[q * kWarpThreads].at[k];
    ddecay[k] = total;
    if (walk.begins) w.dinitial[walk.sequence * e.channels + me.c + k] = carried[k];
  }
}

}  // namespace recblr::cuda
