// Chooses how the unit is divided on a GPU, from its shape and the number of multiprocessors, and launches it.
#include "bdlru.h"

#include "bdlru_rows.cuh"
#include "bdlru_split.cuh"
#include "bdlru_warps.cuh"
#include "packs.h"
#include "regimes.h"
#include "sums.cuh"

namespace recblr::cuda {
namespace {

// The shared memory that a block can have.  If the device does not report it, use 48 KiB, which every device has.
#if defined(__CUDACC__)
std::size_t most_shared(const Launch& to) {
  int bytes = 0;
  return cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, to.device) == cudaSuccess
             ? static_cast<std::size_t>(bytes)
             : 48 * 1024;
}
#else
std::size_t most_shared(const Launch&) { return 227 * 1024; }
#endif

std::int64_t channel_blocks(const Extent& e, int n) { return (e.channels + kLanes * n - 1) / (kLanes * n); }

// The number of blocks to launch: `blocks`, but at least one if packed, since there may be rows to set to zero.
std::int64_t at_least_one(const Extent& e, std::int64_t blocks) { return blocks == 0 && e.offsets ? 1 : blocks; }

template <typename T>
const char* rows(const BdlruForward<T>& w, const Launch& to) {
  const Extent& e = w.in.extent;
  return with_pack<T>(channels_in_pack<T>(e, w.in.x, w.in.gates, w.in.z, w.y), [&](auto n) {
    constexpr int N = decltype(n)::value;
    const std::int64_t blocks = (e.sequences * (e.channels / N) + kUnitThreads - 1) / kUnitThreads;
    return launch<bdlru_rows_forward<T, N>>(at_least_one(e, blocks), kUnitThreads, UnitRing<T, N>::kBytes, to, w);
  });
}

// If warps share time: calls f with the number of channels per thread, and how many of them it reads and writes at
// once.  A thread has two channels if that leaves enough blocks. 16-bit elements always use two if the channels are
// even, since a single one cannot be copied asynchronously.  Addresses must not choose between one and two channels,
// because the two give different bits.
template <typename T, typename F, typename... Views>
const char* with_channels(const Extent& e, const Launch& to, const F& f, const Views&... views) {
  if constexpr (sizeof(T) < 8) {
    const bool enough = sizeof(T) == 2 || e.stretches() * channel_blocks(e, 2) >= 2 * multiprocessors(to);
    if (e.channels % 2 == 0 && enough)
      return (packs_fit(e, views, 2) && ...) ? f(Number<2>(), Number<2>()) : f(Number<2>(), Number<1>());
  }
  return f(Number<1>(), Number<1>());
}

// The number of threads per block: `most` warps, or if shared memory is too small, fewer, in steps of `stretch`.
template <typename Share>
int threads_for(const Launch& to, int stretch, int most) {
  constexpr std::size_t kFixed = 512;  // bytes of shared memory that do not depend on the warps
  while (most > stretch && static_cast<std::size_t>(most) * sizeof(Share) + kFixed > most_shared(to)) most -= stretch;
  return most * kLanes;
}

template <typename T>
const char* warps(const BdlruForward<T>& w, const Launch& to) {
  const Extent& e = w.in.extent;
  const auto start = [&](auto n, auto width) {
    constexpr int N = decltype(n)::value, kWidth = decltype(width)::value;
    const int threads = threads_for<ForwardShare<T, N>>(to, kStretchWarps<T, N>, kMostWarps);
    return launch<bdlru_warps_forward<T, N, kWidth>>(at_least_one(e, e.stretches() * channel_blocks(e, N)), threads,
                                                     threads / kLanes * sizeof(ForwardShare<T, N>), to, w);
  };
  return with_channels<T>(e, to, start, w.in.x, w.in.gates, w.in.z, w.y);
}

template <typename T>
const char* warps(const BdlruBackward<T>& w, const Launch& to, bool one_stretch) {
  const Extent& e = w.in.extent;
  const auto start = [&](auto n, auto width) -> const char* {
    constexpr int N = decltype(n)::value, kWidth = decltype(width)::value;
    const std::int64_t stretches = e.stretches(), blocks = channel_blocks(e, N), all = e.rows;
    BdlruBackward<T> parts = w;
    parts.ddecay = scratch<double>(to, stretches * e.channels);
    double* dscale = w.dscale ? scratch<double>(to, blocks * all) : nullptr;
    if (!parts.ddecay || (w.dscale && !dscale)) return kNoMemory;
    constexpr int kStretch = kStretchWarps<T, N>;
    const int threads = threads_for<BackwardShare<T, N>>(to, kStretch, one_stretch ? kStretch : kMostWarps);
    if (const char* error = launch<bdlru_warps_backward<T, N, kWidth>>(at_least_one(e, stretches * blocks), threads,
                                                                       threads / kLanes * sizeof(BackwardShare<T, N>),
                                                                       to, parts, dscale, all))
      return error;
    if (w.dscale)
      if (const char* error = sum_rows(dscale, blocks, all, w.dscale, to)) return error;
    return sum_rows(parts.ddecay, stretches, e.channels, w.ddecay, to);
  };
  return with_channels<T>(e, to, start, w.in.x, w.in.gates, w.in.z, w.dy, w.dx, w.dgates, w.dz);
}

// A piece has at least 4 kStateRows rows, so that few rows do not make many pieces.  If there are many rows, pieces are
// longer, so that pieces times blocks of channels is about kBlocks.  The cuts depend only on the shape.  The sums
// inside a piece also depend on the device (bdlru.h).
std::int64_t piece_length(const Extent& e) {
  constexpr std::int64_t kLeast = 4 * kStateRows, kBlocks = 2048;
  const std::int64_t length = e.rows * channel_blocks(e, 1) / kBlocks / kStateRows * kStateRows;
  return length > kLeast ? length : kLeast;
}

// Makes the pieces of all sequences the segments of e; `first` holds the first piece of each sequence.
const char* cut(Extent& e, const Launch& to, std::int64_t*& first) {
  const Cuts cuts{e, piece_length(e)};
  const std::int64_t count = (e.rows + cuts.length - 1) / cuts.length + e.sequences;
  first = scratch<std::int64_t>(to, e.sequences + 1);
  auto* pieces = scratch<Segment>(to, count);
  if (!first || !pieces) return kNoMemory;
  e.segments = pieces, e.segment_count = count;
  if (const char* error = launch<number_pieces<kSplitThreads>>(1, kSplitThreads, 0, to, cuts, first)) return error;
  const std::int64_t blocks = (count + kSplitThreads - 1) / kSplitThreads;
  return launch<list_pieces<kSplitThreads>>(blocks, kSplitThreads, 0, to, cuts, first, pieces, count);
}

// Cuts `in` into pieces and finds the state before each piece, beginning with `start`. `incoming` is (piece, C).
template <bool backward, typename T>
const char* split(BdlruInputs<T>& in, const View<const T>& dy, const View<const Accumulate<T>>& start,
                  Accumulate<T>* last, const Launch& to, View<const Accumulate<T>>& incoming) {
  using A = Accumulate<T>;
  Extent& e = in.extent;
  std::int64_t* first = nullptr;
  if (const char* error = cut(e, to, first)) return error;
  A *product = scratch<A>(to, e.segment_count * e.channels), *from_zero = scratch<A>(to, e.segment_count * e.channels);
  if (!product || !from_zero) return kNoMemory;
  incoming = {product, e.channels, 0, 1};
  // Here the bits do not depend on the number of channels per thread.  So a thread has as many as it may read at once.
  const auto summarise = [&](auto, auto width) {
    constexpr int N = decltype(width)::value;
    constexpr std::size_t kBytes = SummaryRing<T, N>::kBytes + sizeof(Summary<A, N>) * kSplitThreads;
    const std::int64_t blocks = e.segment_count * channel_blocks(e, N);
    return launch<bdlru_split_summary<backward, T, N>>(blocks, kSplitThreads, kBytes, to, in, dy, product, from_zero);
  };
  if (const char* error = with_channels<T>(e, to, summarise, in.x, in.gates, in.z, dy)) return error;
  const std::int64_t blocks = (e.sequences * e.channels + kSplitThreads - 1) / kSplitThreads;
  return launch<bdlru_split_carry<backward, A>>(blocks, kSplitThreads, 0, to, first, e.sequences, e.channels, start,
                                                product, from_zero, last);
}

template <typename T>
const char* pieces(BdlruForward<T> w, const Launch& to) {
  View<const Accumulate<T>> incoming;
  if (const char* error = split<false>(w.in, View<const T>{}, w.in.initial, w.final, to, incoming)) return error;
  w.in.initial = incoming;
  return warps(w, to);
}
template <typename T>
const char* pieces(BdlruBackward<T> w, const Launch& to) {
  View<const Accumulate<T>> incoming;
  if (const char* error = split<true>(w.in, w.dy, w.dfinal, w.dinitial, to, incoming)) return error;
  w.dfinal = incoming;
  return warps(w, to, false);
}

template <typename Work>
int regime_of(const Work& w, const Launch& to) {
  return to.regime ? to.regime : bdlru_regime(w.in.extent, multiprocessors(to));
}

}  // namespace

int bdlru_regime(const Extent& e, int multiprocessors) {
  constexpr std::int64_t kBusy = 1024;  // sequences times channels that keep one multiprocessor busy
  constexpr std::int64_t kLong = 1024;  // mean steps of a sequence from which splitting pays off
  if (e.sequences * e.channels >= kBusy * multiprocessors) return kRows;
  // Splitting reads most inputs twice.  So split only if there are fewer blocks of channels than multiprocessors.
  return e.sequences * channel_blocks(e, 1) < multiprocessors && e.rows >= kLong * e.sequences ? kSplit : kWarps;
}

template <typename T>
const char* bdlru_forward(const BdlruForward<T>& work, const DeviceOffsets& offsets, const Launch& to) {
  BdlruForward<T> w = work;
  if (w.in.extent.channels == 0) return nullptr;
  const int regime = regime_of(w, to);
  if (const char* error = trust_offsets(w.in.extent, offsets, to)) return error;
  return regime == kRows ? rows(w, to) : regime == kWarps ? warps(w, to) : pieces(w, to);
}

template <typename T>
const char* bdlru_backward(const BdlruBackward<T>& work, const DeviceOffsets& offsets, const Launch& to) {
  BdlruBackward<T> w = work;
  const int regime = regime_of(w, to);
  if (const char* error = trust_offsets(w.in.extent, offsets, to)) return error;
  if (w.in.extent.channels == 0)
    return w.dscale ? sum_rows(static_cast<const double*>(nullptr), 0, w.in.extent.rows, w.dscale, to) : nullptr;
  return regime == kSplit ? pieces(w, to) : warps(w, to, regime == kRows);
}

#define RECBLR_INSTANTIATE(T)                                                                      \
  template const char* bdlru_forward(const BdlruForward<T>&, const DeviceOffsets&, const Launch&); \
  template const char* bdlru_backward(const BdlruBackward<T>&, const DeviceOffsets&, const Launch&);
RECBLR_REAL_TYPES(RECBLR_INSTANTIATE)

}  // namespace recblr::cuda
