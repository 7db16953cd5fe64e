// The unit for shapes whose few long sequences would leave most of a GPU idle.  Time is cut into pieces, and blocks
// share the pieces.  There are three launches.  The first finds the effect of each piece on any state before it.  The
// second finds the state before each piece, one after another.  The third runs the kernels of bdlru_warps.cuh on each
// piece.  Only the first launch reads inputs a second time: r, i, x forward, or r, dy, z backward.
//
// Rows are numbered through all sequences.  Pieces are cut at row numbers that are multiples of `length`, which is
// itself a multiple of kStateRows.  So each piece starts at a state that the forward pass keeps.
#pragma once
#include "bdlru_warps.cuh"

namespace recblr::cuda {

constexpr int kSplitThreads = 256, kSplitStages = 8;

// Rows are cut at multiples of `length`, and also at the ends of sequences.
struct Cuts {
  Extent extent;
  std::int64_t length;
  RECBLR_HD std::int64_t begin(std::int64_t s) const { return extent.offsets ? extent.offsets[s] : s * extent.length; }
  RECBLR_HD std::int64_t pieces(std::int64_t s) const {
    const std::int64_t from = begin(s), to = begin(s + 1);
    return from < to ? (to + length - 1) / length - from / length : 0;
  }
};

struct PieceCounts {
  std::int64_t at[kSplitThreads];
};

// Runs as one block. first (S + 1) gets the number of the first piece of each sequence, and then the number of all
// pieces.
template <int kThreads>
__global__ void __launch_bounds__(kThreads) number_pieces(const Cuts cuts, std::int64_t* first) {
  RECBLR_SHARED(PieceCounts, counts);
  const std::int64_t sequences = cuts.extent.sequences, share = (sequences + kThreads - 1) / kThreads;
  const std::int64_t begin = threadIdx.x * share, end = begin + share < sequences ? begin + share : sequences;
  std::int64_t count = 0;
  for (std::int64_t s = begin; s < end; ++s) count += cuts.pieces(s);
  counts.at[threadIdx.x] = count;
  __syncthreads();
  std::int64_t number = 0;
  for (unsigned k = 0; k < threadIdx.x; ++k) number += counts.at[k];
  for (std::int64_t s = begin; s < end; ++s) first[s] = number, number += cuts.pieces(s);
  if (threadIdx.x == kThreads - 1) first[sequences] = number;
}

// pieces (count) has room for the largest possible number of pieces.  The unused ones get sequence -1.
template <int kThreads>
__global__ void __launch_bounds__(kThreads)
    list_pieces(const Cuts cuts, const std::int64_t* first, Segment* pieces, std::int64_t count) {
  const std::int64_t n = thread_index(), sequences = cuts.extent.sequences;
  if (n >= count) return;
  Segment piece;
  piece.sequence = -1, piece.plane = piece.row = piece.length = 0;
  if (n < first[sequences]) {
    std::int64_t s = 0;  // the last with first[s] <= n
    for (std::int64_t end = sequences; end - s > 1;) {
      const std::int64_t middle = s + (end - s) / 2;
      (first[middle] <= n ? s : end) = middle;
    }
    const std::int64_t begin = cuts.begin(s), end = cuts.begin(s + 1), cell = begin / cuts.length + n - first[s];
    const std::int64_t from = cell * cuts.length > begin ? cell * cuts.length : begin;
    const std::int64_t to = (cell + 1) * cuts.length < end ? (cell + 1) * cuts.length : end;
    piece.sequence = s, piece.length = to - from;
    piece.plane = cuts.extent.offsets ? 0 : s, piece.row = cuts.extent.offsets ? from : from - begin;
    piece.begins = from == begin, piece.ends = to == end;
  }
  pieces[n] = piece;
}

template <typename T, int N>
using SummaryRing = Ring<T, N, 3, kSplitStages, kSplitThreads>;

// product and from_zero are (piece, C).  If backward, the state is dL/dh and dy is added to it.
template <bool backward, typename T, int N>
__global__ void __launch_bounds__(kSplitThreads)
    bdlru_split_summary(const __grid_constant__ BdlruInputs<T> in, const __grid_constant__ View<const T> dy,
                        Accumulate<T>* product, Accumulate<T>* from_zero) {
  using A = Accumulate<T>;
  struct Summaries {
    Summary<A, N> at[kSplitThreads];
  };
  RECBLR_SHARED_BYTES(shared);
  auto& summaries = *reinterpret_cast<Summaries*>(shared + SummaryRing<T, N>::kBytes);
  const Place<T, N> me(in.extent);
  const Walk walk(in.extent, me.index);
  if (walk.sequence < 0) return;
  // Each warp processes a share of the rows of the piece, one row after another.  The first warp joins the shares.
  const std::int64_t share = (walk.length + me.warps - 1) / me.warps, begin = me.warp * share;
  const std::int64_t end = begin + share < walk.length ? begin + share : walk.length,
                     count = me.live && begin < end ? end - begin : 0;
  const auto row = [&](std::int64_t step) { return backward ? end - 1 - step : begin + step; };
  const Rows<T> inputs(in, walk, me.c);
  const Stream<const T> adds = forward_stream(dy, walk, me.c);
  const auto fetch = [&](std::int64_t step, int array) -> const T* {
    const std::int64_t t = row(step);
    if (array == 0) return inputs.r.step(t);
    if (backward) return array == 1 ? adds.step(t) : inputs.z.step(t);
    return array == 1 ? inputs.x.step(t) : inputs.i.step(t);
  };
  A decay[N];
  load_decay<N>(in.decay, me.c, decay);
  Summary<A, N> mine;
  mine.clear();
  SummaryRing<T, N> ring(shared);
  ring.begin(count, fetch);
  for (std::int64_t n = 0; n < count; ++n) {
    A r[N], x[N] = {}, i[N] = {};
    const A scale = inputs.scale_at(row(n));
    ring.next(fetch);
    ring.get(0, r);
    if (!backward || dy.data) ring.get(1, x);
    if (!backward || in.z.data) ring.get(2, i);
#pragma unroll
    for (int k = 0; k < N; ++k) {
      const Factors<A> f = factors(r[k], decay[k] * scale);
      if constexpr (backward)
        summarise_adjoint(f.alpha, in.z.data ? x[k] * (i[k] * gate<T>(i[k])) : x[k], mine.product[k],
                          mine.from_zero[k]);
      else
        summarise(f.alpha, f.beta * (gate<T>(i[k]) * x[k]), mine.product[k], mine.from_zero[k]);
    }
  }
  summaries.at[threadIdx.x] = mine;
  __syncthreads();
  if (me.warp != 0 || !me.live) return;
  Summary<A, N> all;
  all.clear();
  for (int q = 0; q < me.warps; ++q) {
    const Summary<A, N> part = summaries.at[(backward ? me.warps - 1 - q : q) * kLanes + threadIdx.x];
    part.move(all.from_zero);
#pragma unroll
    for (int k = 0; k < N; ++k) all.product[k] = multiply(all.product[k], part.product[k]);
  }
#pragma unroll
  for (int k = 0; k < N; ++k) {
    const std::int64_t at = me.index * in.extent.channels + me.c + k;
    product[at] = all.product[k], from_zero[at] = all.from_zero[k];
  }
}

// One thread for each channel of each sequence carries the state over the pieces, beginning with `start` (absent:
// zeros).  The state before a piece replaces its product. `last` (S, C) gets the state after the last piece.  The
// values of several pieces are read ahead.
template <bool backward, typename A>
__global__ void __launch_bounds__(kSplitThreads)
    bdlru_split_carry(const std::int64_t* first, std::int64_t sequences, std::int64_t channels,
                      const __grid_constant__ View<const A> start, A* product, const A* from_zero, A* last) {
  constexpr int kAhead = 16;
  if (thread_index() >= sequences * channels) return;
  const std::int64_t s = thread_index() / channels, c = thread_index() % channels, pieces = first[s + 1] - first[s];
  A state;
  load_state(start, s, c, 1, &state);
  const auto at = [&](std::int64_t n) { return (first[s] + (backward ? pieces - 1 - n : n)) * channels + c; };
  for (std::int64_t n = 0; n < pieces; n += kAhead) {
    A factors[kAhead], terms[kAhead];
#pragma unroll
    for (int k = 0; k < kAhead; ++k)
      if (n + k < pieces) factors[k] = product[at(n + k)], terms[k] = from_zero[at(n + k)];
#pragma unroll
    for (int k = 0; k < kAhead; ++k)
      if (n + k < pieces) product[at(n + k)] = state, state = step(factors[k], state, terms[k]);
  }
  last[s * channels + c] = state;
}

}  // namespace recblr::cuda
