// The causal convolution and its adjoint.  Each thread processes a pack of channels of one tile of rows, row by row,
// and keeps the last `width` inputs.  Nothing is carried from tile to tile.  Each tile reads the rows before it once
// more, and in the backward pass also the rows after it.
#pragma once
#include "core/causal_conv1d.h"
#include "elementary.cuh"
#include "rows.cuh"
#include "window.cuh"

namespace recblr::cuda {

// The number of stages that keeps 48 KiB in flight.  The registers for 16 bytes of bfloat16 leave room for three blocks
// per multiprocessor forward, and for two backward, which reads two arrays.
template <int kArrays>
constexpr int kConvStages = kArrays == 1 ? 10 : 8;

// The layout of a block's shared memory.  If sums are needed there only at the end, they reuse the memory of the rings.
template <typename T, int N, int kWidth>
struct ConvShared {
  using A = Accumulate<T>;
  template <int kArrays>
  using Packs = Ring<T, N, kArrays, kConvStages<kArrays>, kWindowThreads<kWidth>>;
  using Rows = Window<A, N, kWidth>;
  using Sums = TapSums<A, N, kWidth>;

  __host__ __device__ static constexpr std::size_t forward(std::int64_t width) {
    return Packs<1>::kBytes + Rows::bytes(width);
  }
  __host__ __device__ static constexpr std::size_t inputs() { return Packs<2>::kBytes; }
  __host__ __device__ static constexpr std::size_t adjoints(std::int64_t width) {
    return inputs() + Rows::bytes(width);
  }
  __host__ __device__ static constexpr std::size_t sums(std::int64_t width) {
    return kWidth ? 0 : adjoints(width) + Rows::bytes(width);
  }
  __host__ __device__ static constexpr std::size_t backward(std::int64_t width) {
    const std::size_t rows = adjoints(width) + Rows::bytes(width), all = sums(width) + Sums::bytes(width);
    return rows < all ? all : rows;
  }
};

// A sigmoid that is accurate enough for results of type T.
template <typename T>
RECBLR_HD Accumulate<T> sigmoid_for(Accumulate<T> x) {
  if constexpr (sizeof(T) == 2)
    return brief_sigmoid(x);
  else
    return sigmoid(x);
}

// Loads N channels of a state (sequence, row, channel), or zeros if it is absent.
template <int N, typename A>
RECBLR_HD void load_state_row(const View<const A>& v, std::int64_t sequence, std::int64_t row, std::int64_t c, A* x) {
#pragma unroll
  for (int n = 0; n < N; ++n) x[n] = v.data ? v.data[sequence * v.sequence + row * v.time + (c + n) * v.channel] : A(0);
}

// Fills the window with the rows before a step of a sequence: rows of the sequence, and before those, its initial
// state.
template <int N, typename T, typename Rows>
RECBLR_HD void fill(Rows& window, const ConvInputs<T>& in, const Sequence& sequence, std::int64_t step,
                    const RowCursor<const T>& x, std::int64_t c, int past) {
  for (int back = past; back > 0; --back) {
    Accumulate<T> row[N];
    if (back <= step)
      widen(load_pack<T, N>(x.before(back)), row);
    else
      load_state_row<N>(in.initial, sequence.index, past - back + step, c, row);
    window.push(row);
  }
}

// The convolution of a window, before SiLU.
template <int N, typename A, typename Rows, typename Factors>
RECBLR_HD void convolve(const Rows& x, const Factors& taps, int width, A* sum) {
#pragma unroll
  for (int n = 0; n < N; ++n) sum[n] = 0;
#pragma unroll
  for (int k = 0; k < width; ++k) {
    const A* row = x(k);
#pragma unroll
    for (int n = 0; n < N; ++n) sum[n] = multiply_add(taps(k, n), row[n], sum[n]);
  }
#pragma unroll
  for (int n = 0; n < N; ++n) sum[n] += taps.bias(n);
}

// Three blocks per multiprocessor.  Without this bound, ptxas would aim at four for sm_75 and spill registers.
template <typename T, int N, int kWidth>
__global__ void __launch_bounds__(kWindowThreads<kWidth>, 3)
    conv_forward_tiles(const __grid_constant__ ConvForward<T> w, const __grid_constant__ Tiles tiles) {
  using A = Accumulate<T>;
  using Shared = ConvShared<T, N, kWidth>;
  RECBLR_SHARED_BYTES(shared);
  const Extent& e = w.in.extent;
  const int width = kWidth ? kWidth : static_cast<int>(w.in.width), past = width - 1;
  const Share<N> share(tiles, e);
  const int rows = share.rows();
  if (rows == 0) return;
  Sequence sequence(e, share.begin);
  RowCursor<const T> ahead(w.in.x, e, sequence, share.begin, share.c);
  RowCursor<T> y(w.y, e, sequence, share.begin, share.c);
  const RowCursor<const T> here = ahead;
  const auto fetch = [&](std::int64_t, int) {
    const T* at = ahead.at();
    ahead.next();
    return at;
  };
  typename Shared::template Packs<1> ring(shared);
  ring.begin(rows, fetch);
  const Taps<A, N, kWidth> taps(w.in.taps, w.in.bias, e.channels, share.c);
  typename Shared::Rows x(shared + Shared::template Packs<1>::kBytes, width);
  fill<N>(x, w.in, sequence, share.begin - sequence.start, here, share.c, past);
  int stop = near(sequence.stop - share.begin);
  [[maybe_unused]] constexpr int kTurn = kWindowTurn<kWidth>;
#pragma unroll kTurn
  for (int row = 0; row < rows; ++row) {  // counted from the first row of the tile
    if (row == stop) {
      sequence.next(e);
      stop = near(sequence.stop - share.begin);
      fill<N>(x, w.in, sequence, 0, here, share.c, past);
    }
    A v[N];
    ring.next(fetch);
    ring.get(0, v);
    x.push(v);
    convolve<N>(x, taps, width, v);
    if (w.in.silu) {
#pragma unroll
      for (int n = 0; n < N; ++n) v[n] *= sigmoid_for<T>(v[n]);
    }
    store_narrow<N>(y.at(), v);
    y.next();
    if (row + 1 == stop && w.final) {
#pragma unroll
      for (int k = 1; k < width; ++k)
        store_wide<N>(w.final + (sequence.index * past + k - 1) * e.channels + share.c, x(k));
    }
  }
}

// partial is (row blocks, K + 1, C): the sums of each block for the taps and for the bias.
template <typename T, int N, int kWidth>
__global__ void __launch_bounds__(kWindowThreads<kWidth>)
    conv_backward_tiles(const __grid_constant__ ConvBackward<T> w, const __grid_constant__ Tiles tiles,
                        Accumulate<T>* partial) {
  using A = Accumulate<T>;
  using Shared = ConvShared<T, N, kWidth>;
  constexpr int kThreads = kWindowThreads<kWidth>;
  RECBLR_SHARED_BYTES(shared);
  const Extent& e = w.in.extent;
  const int width = kWidth ? kWidth : static_cast<int>(w.in.width), past = width - 1;
  const Share<N> share(tiles, e);
  typename Shared::Sums sums(shared + Shared::sums(width), width);
  const int rows = share.rows();
  if (rows > 0) {
    Sequence sequence(e, share.begin);
    RowCursor<const T> ahead_x(w.in.x, e, sequence, share.begin, share.c),
        ahead_dy(w.dy, e, sequence, share.begin, share.c);
    RowCursor<T> dx(w.dx, e, sequence, share.begin, share.c);
    const RowCursor<const T> here = ahead_x;
    const auto fetch = [&](std::int64_t, int array) {
      RowCursor<const T>& ahead = array == 0 ? ahead_x : ahead_dy;
      const T* at = ahead.at();
      ahead.next();
      return at;
    };
    typename Shared::template Packs<2> ring(shared);
    const int reach = rows + past, last = near(last_row(e) - share.begin);
    ring.begin(reach < last ? reach : last, fetch);
    const Taps<A, N, kWidth> taps(w.in.taps, w.in.bias, e.channels, share.c);
    typename Shared::Rows x(shared + Shared::inputs(), width), adjoint(shared + Shared::adjoints(width), width);
    const A zeros[N] = {};
    for (int k = 0; k < width; ++k) adjoint.push(zeros);
    fill<N>(x, w.in, sequence, share.begin - sequence.start, here, share.c, past);

    // Rows are counted from the first row of the tile.
    int start = near(sequence.start - share.begin), stop = near(sequence.stop - share.begin);
    // Writes the adjoint of the input `past` rows before the newest adjoint.  This input is row `row`, or if that is
    // before the sequence, a row of its initial state.  The last inputs of a sequence are its final state; `lag` counts
    // them.
    const auto write = [&](int row, int lag) {
      // Rows before the tile belong to another tile.  But an initial state belongs to the tile of the sequence's first
      // row.
      if (row < (start < 0 ? 0 : start - past) || row >= rows) return;
      A out[N];
#pragma unroll
      for (int n = 0; n < N; ++n) out[n] = 0;
#pragma unroll
      for (int k = 0; k < width; ++k) {
        const A* d = adjoint(width - 1 - k);
#pragma unroll
        for (int n = 0; n < N; ++n) out[n] = multiply_add(taps(k, n), d[n], out[n]);
      }
      if (lag >= 0 && w.dfinal.data) {
        A more[N];
        load_state_row<N>(w.dfinal, sequence.index, lag, share.c, more);
#pragma unroll
        for (int n = 0; n < N; ++n) out[n] += more[n];
      }
      if (row >= start) {
        store_narrow<N>(dx.at(), out);
        dx.next();
      } else if (w.dinitial) {
        store_wide<N>(w.dinitial + (sequence.index * past + row - start + past) * e.channels + share.c, out);
      }
    };
    [[maybe_unused]] constexpr int kTurn = kWindowTurn<kWidth>;
#pragma unroll kTurn
    for (int row = 0; row <= reach; ++row) {
      if (row == stop) {
#pragma unroll 1
        for (int lag = 0; lag < past; ++lag) {  // no step follows these rows
          adjoint.push(zeros);
          write(row - past + lag, lag);
        }
        if (row >= rows) break;
        sequence.next(e);
        start = row, stop = near(sequence.stop - share.begin);
        fill<N>(x, w.in, sequence, 0, here, share.c, past);
      }
      if (row >= reach) break;
      A v[N], d[N];
      ring.next(fetch);
      ring.get(0, v);
      x.push(v);
      if (w.dy.data) {
        ring.get(1, d);
      } else {
#pragma unroll
        for (int n = 0; n < N; ++n) d[n] = 0;
      }
      if (w.in.silu) {
        convolve<N>(x, taps, width, v);
#pragma unroll
        for (int n = 0; n < N; ++n) d[n] *= silu_slope(v[n], sigmoid_for<T>(v[n]));
      }
      adjoint.push(d);
      if (row < rows) {  // later rows belong to the next tile
#pragma unroll
        for (int k = 0; k < width; ++k) {
          const A* input = x(k);
#pragma unroll
          for (int n = 0; n < N; ++n) sums(k, n) = multiply_add(d[n], input[n], sums(k, n));
        }
#pragma unroll
        for (int n = 0; n < N; ++n) sums(width, n) += d[n];
      }
      write(row - past, -1);
    }
    copy_async_wait<0>();  // the sums will now reuse the memory of the ring
  }

  // Adds up the sums of the tiles of the block, in their order.
  if (kWidth) __syncthreads();
  sums.publish(shared + Shared::sums(width));
  __syncthreads();
  const A* all = reinterpret_cast<const A*>(shared + Shared::sums(width));
  const int channels = tiles.lanes * N;
  for (int i = static_cast<int>(threadIdx.x); i < (width + 1) * channels; i += kThreads) {
    const int k = i / channels, lane = i % channels / N, n = i % N;
    const std::int64_t c = block_index() % tiles.groups * channels + i % channels;
    if (c >= e.channels) continue;
    A sum = 0;
    for (int tile = 0; tile < tiles.in_block; ++tile) sum += all[(k * N + n) * kThreads + tile * tiles.lanes + lane];
    partial[(share.row_block * (width + 1) + k) * e.channels + c] = sum;
  }
}

constexpr int kEdgeThreads = 256;

// Processes what no tile covers: rows that no sequence owns become zero, and a sequence without rows passes its state
// on unchanged.
template <typename T>
__global__ void __launch_bounds__(kEdgeThreads)
    conv_edges(const __grid_constant__ Extent e, const __grid_constant__ View<T> rows,
               const __grid_constant__ View<const Accumulate<T>> from, Accumulate<T>* to, std::int64_t past) {
  zero_uncovered(e, rows);
  if (!to) return;
  const std::int64_t size = past * e.channels;
  for (std::int64_t s = thread_index() / 32; s < e.sequences; s += thread_count() / 32) {
    if (e.offsets ? e.offsets[s + 1] > e.offsets[s] : e.length > 0) continue;
    for (std::int64_t i = threadIdx.x % 32; i < size; i += 32)
      load_state_row<1>(from, s, i / e.channels, i % e.channels, to + s * size + i);
  }
}

}  // namespace recblr::cuda
