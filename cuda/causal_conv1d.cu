// Divides the causal convolution on a GPU and launches it.  No state is carried through time, so one way suits all
// shapes.
#include "causal_conv1d.h"

#include "causal_conv1d.cuh"
#include "packs.h"
#include "sums.cuh"

namespace recblr::cuda {
namespace {

// A dense array that is read or written in packs, in addition to the rows.
template <typename A>
View<const A> dense(const A* data, std::int64_t rows, std::int64_t channels) {
  return {data, rows * channels, channels, 1};
}

template <typename T>
int pack_of(const ConvForward<T>& w) {
  const ConvInputs<T>& in = w.in;
  const std::int64_t channels = in.extent.channels;
  return channels_in_pack<T>(in.extent, in.x, w.y, dense(in.taps, in.width, channels), dense(in.bias, 1, channels),
                             dense<Accumulate<T>>(w.final, in.width - 1, channels));
}
template <typename T>
int pack_of(const ConvBackward<T>& w) {
  const ConvInputs<T>& in = w.in;
  const std::int64_t channels = in.extent.channels;
  return channels_in_pack<T>(in.extent, in.x, w.dy, w.dx, dense(in.taps, in.width, channels),
                             dense(in.bias, 1, channels), dense<Accumulate<T>>(w.dinitial, in.width - 1, channels));
}

// Calls f with the pack and the width of a compiled kernel: width 4, or width 0 for any width with one channel per
// thread.
template <typename T, typename Work, typename F>
const char* with_kernel(const Work& w, const F& f) {
  if (w.in.width != 4) return f(Number<1>(), Number<0>());
  return with_pack<T>(pack_of(w), [&](auto n) { return f(n, Number<4>()); });
}

// The tiles for packs of `pack` channels. `tile` is the number of rows of a tile; with 0, the shape decides.
template <typename T>
Tiles tiles_of(const Extent& e, int pack, int threads, std::int64_t tile) {
  const int widest = threads == kWindowThreads<0> ? 1 : channels_in_pack<T>(e);
  return share_out(e.rows, e.channels, widest, pack, threads, tile ? tile : rows_in_tile(e.rows, e.channels / widest));
}

template <typename T>
const char* edges(const Extent& e, const View<T>& rows, const View<const Accumulate<T>>& from, Accumulate<T>* to,
                  std::int64_t past, const Launch& launch_to) {
  if (!e.offsets && e.length > 0) return nullptr;
  constexpr std::int64_t kSequences = kEdgeThreads / 32, kMost = 4096;
  const std::int64_t blocks = (e.sequences + kSequences - 1) / kSequences;
  const std::int64_t some = blocks > kMost ? kMost : blocks > 0 ? blocks : 1;
  return launch<conv_edges<T>>(some, kEdgeThreads, 0, launch_to, e, rows, from, to, past);
}

template <typename T>
const char* forward(ConvForward<T> w, const DeviceOffsets& offsets, const Launch& to, std::int64_t tile) {
  const Extent& e = w.in.extent;
  if (e.channels == 0) return nullptr;
  if (const char* error = trust_offsets(w.in.extent, offsets, to)) return error;
  if (const char* error = edges(e, w.y, w.in.initial, w.final, w.in.width - 1, to)) return error;
  return with_kernel<T>(w, [&](auto n, auto width) {
    constexpr int N = decltype(n)::value, kWidth = decltype(width)::value, kThreads = kWindowThreads<kWidth>;
    const Tiles tiles = tiles_of<T>(e, N, kThreads, tile);
    const std::size_t shared = ConvShared<T, N, kWidth>::forward(w.in.width);
    return launch<conv_forward_tiles<T, N, kWidth>>(tiles.blocks(), kThreads, shared, to, w, tiles);
  });
}

template <typename T>
const char* backward(ConvBackward<T> w, const DeviceOffsets& offsets, const Launch& to, std::int64_t tile) {
  using A = Accumulate<T>;
  const Extent& e = w.in.extent;
  if (e.channels == 0) return nullptr;
  if (const char* error = trust_offsets(w.in.extent, offsets, to)) return error;
  if (const char* error = edges(e, w.dx, w.dfinal, w.dinitial, w.in.width - 1, to)) return error;
  return with_kernel<T>(w, [&](auto n, auto width) -> const char* {
    constexpr int N = decltype(n)::value, kWidth = decltype(width)::value, kThreads = kWindowThreads<kWidth>;
    const Tiles tiles = tiles_of<T>(e, N, kThreads, tile);
    const std::int64_t count = tiles.row_blocks(), split = w.in.width * e.channels, columns = split + e.channels;
    A* partial = nullptr;
    if (count > 0) {
      partial = scratch<A>(to, count * columns);
      if (!partial) return kNoMemory;
      const std::size_t shared = ConvShared<T, N, kWidth>::backward(w.in.width);
      if (const char* error =
              launch<conv_backward_tiles<T, N, kWidth>>(tiles.blocks(), kThreads, shared, to, w, tiles, partial))
        return error;
    }
    return sum_rows(static_cast<const A*>(partial), count, columns, w.dtaps, split, w.dbias, to);
  });
}

}  // namespace

template <typename T>
const char* conv_forward(const ConvForward<T>& work, const DeviceOffsets& offsets, const Launch& to) {
  return forward(work, offsets, to, 0);
}
template <typename T>
const char* conv_backward(const ConvBackward<T>& work, const DeviceOffsets& offsets, const Launch& to) {
  return backward(work, offsets, to, 0);
}

#define RECBLR_INSTANTIATE(T)                                                                    \
  template const char* conv_forward(const ConvForward<T>&, const DeviceOffsets&, const Launch&); \
  template const char* conv_backward(const ConvBackward<T>&, const DeviceOffsets&, const Launch&);
RECBLR_REAL_TYPES(RECBLR_INSTANTIATE)

}  // namespace recblr::cuda
