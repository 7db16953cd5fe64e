// Chooses how the unit is shared out on a GPU, from its shape and the number of multiprocessors, and launches it.
#include "bdlru.h"

#include "bdlru_rows.cuh"
#include "bdlru_warps.cuh"
#include "packs.h"
#include "sums.cuh"

namespace recblr::cuda {
namespace {

constexpr const char* kNoMemory = "out of memory on the device";

// Shared memory that a block can have.
#if defined(__CUDACC__)
std::size_t most_shared(const Launch& to) {
  int bytes = 0;
  return cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, to.device) == cudaSuccess
             ? static_cast<std::size_t>(bytes) : kSharedUnasked;
}
#else
std::size_t most_shared(const Launch&) { return 227 * 1024; }
#endif

std::int64_t all_rows(const Extent& e) { return e.offsets ? e.length : e.sequences * e.length; }

template <typename T>
T* scratch(const Launch& to, std::int64_t count) {
  return static_cast<T*>(to.allocate(to.context, static_cast<std::size_t>(count) * sizeof(T)));
}

std::int64_t channel_blocks(const Extent& e, int n) { return (e.channels + kWarpThreads * n - 1) / (kWarpThreads * n); }

// Blocks of kernels that take `blocks` for their work; at least one, where there are rows to be zeroed.
std::int64_t at_least_one(const Extent& e, std::int64_t blocks) { return blocks == 0 && e.offsets ? 1 : blocks; }

template <typename T>
const char* rows(const BdlruForward<T>& w, const Launch& to) {
  const Extent& e = w.in.extent;
  return with_pack<T>(channels_in_pack<T>(e, w.in.x, w.in.gates, w.in.z, w.y), [&](auto n) {
    constexpr int N = decltype(n)::value;
    const std::int64_t blocks = (e.sequences * (e.channels / N) + kUnitThreads - 1) / kUnitThreads;
    return launch(bdlru_rows_forward<T, N>, at_least_one(e, blocks), kUnitThreads, UnitRing<T, N>::kBytes, to, w);
  });
}

// Channels a thread where warps share out time: two where that leaves blocks enough.  Single elements of 16 bits cannot be
// copied asynchronously: two of them wherever they lie together.
template <typename T, typename... Views>
int pair_of_channels(const Extent& e, const Launch& to, const Views&... views) {
  if (sizeof(T) == 8 || e.channels % 2 != 0 || !(packs_fit(e, views, 2) && ...)) return 1;
  return sizeof(T) == 2 || e.stretches() * channel_blocks(e, 2) >= 2 * multiprocessors(to) ? 2 : 1;
}
template <typename T, typename F>
auto with_pair(int n, const F& f) {
  if constexpr (sizeof(T) < 8) {
    if (n == 2) return f(Number<2>());
  }
  return f(Number<1>());
}

// As many warps as there are for a block, by `stretches`; fewer where shared memory is short.
template <typename T, int N, typename Bytes>
int threads_for(const Launch& to, bool one_stretch, const Bytes& bytes) {
  int warps = one_stretch ? kStretchWarps<T, N> : kMostWarps;
  while (warps > kStretchWarps<T, N> && bytes(warps * kWarpThreads) > most_shared(to)) warps -= kStretchWarps<T, N>;
  return warps * kWarpThreads;
}

template <typename T>
const char* warps(const BdlruForward<T>& w, const Launch& to) {
  const Extent& e = w.in.extent;
  return with_pair<T>(pair_of_channels<T>(e, to, w.in.x, w.in.gates, w.in.z, w.y), [&](auto n) {
    constexpr int N = decltype(n)::value;
    const int threads = threads_for<T, N>(to, false, forward_bytes<T, N>);
    return launch(bdlru_warps_forward<T, N>, at_least_one(e, e.stretches() * channel_blocks(e, N)), threads, forward_bytes<T, N>(threads), to, w);
  });
}

template <typename T>
const char* warps(const BdlruBackward<T>& w, const Launch& to, bool one_stretch) {
  const Extent& e = w.in.extent;
  return with_pair<T>(pair_of_channels<T>(e, to, w.in.x, w.in.gates, w.in.z, w.dy, w.dx, w.dgates, w.dz), [&](auto n) -> const char* {
    constexpr int N = decltype(n)::value;
    const std::int64_t stretches = e.stretches(), blocks = channel_blocks(e, N), all = all_rows(e);
    BdlruBackward<T> parts = w;
    parts.ddecay = scratch<double>(to, stretches * e.channels);
    double* dscale = w.dscale ? scratch<double>(to, blocks * all) : nullptr;
    if (!parts.ddecay || (w.dscale && !dscale)) return kNoMemory;
    const int threads = threads_for<T, N>(to, one_stretch, backward_bytes<T, N>);
    if (const char* error = launch(bdlru_warps_backward<T, N>, at_least_one(e, stretches * blocks), threads, backward_bytes<T, N>(threads),
                                   to, parts, dscale, all))
      return error;
    if (w.dscale)
      if (const char* error = sum_rows(dscale, blocks, all, w.dscale, to)) return error;
    return sum_rows(parts.ddecay, stretches, e.channels, w.ddecay, to);
  });
}

template <typename Work>
int regime_of(const Work& w, const DeviceOffsets& offsets, const Launch& to) {
  return to.regime ? to.regime : bdlru_regime(w.in.extent, offsets.data, multiprocessors(to));
}

}  // namespace

int bdlru_regime(const Extent& e, bool /*packed*/, int multiprocessors) {
  constexpr std::int64_t kBusy = 1024;  // channels of sequences that keep a multiprocessor's threads at work
  if (e.sequences * e.channels >= kBusy * multiprocessors) return 1;
  return 2;
}

template <typename T>
const char* bdlru_forward(const BdlruForward<T>& work, const DeviceOffsets& offsets, const Launch& to) {
  BdlruForward<T> w = work;
  if (w.in.extent.channels == 0) return nullptr;
  const int regime = regime_of(w, offsets, to);
  if (const char* error = trust_offsets(w.in.extent, offsets, to)) return error;
  return regime == 1 ? rows(w, to) : warps(w, to);
}

template <typename T>
const char* bdlru_backward(const BdlruBackward<T>& work, const DeviceOffsets& offsets, const Launch& to) {
  BdlruBackward<T> w = work;
  const int regime = regime_of(w, offsets, to);
  if (const char* error = trust_offsets(w.in.extent, offsets, to)) return error;
  if (w.in.extent.channels == 0)
    return w.dscale ? sum_rows(static_cast<const double*>(nullptr), 0, all_rows(w.in.extent), w.dscale, to) : nullptr;
  return warps(w, to, regime == 1);
}

#define RECBLR_INSTANTIATE(T)                                                                        \
  template const char* bdlru_forward(const BdlruForward<T>&, const DeviceOffsets&, const Launch&); \
  template const char* bdlru_backward(const BdlruBackward<T>&, const DeviceOffsets&, const Launch&);
RECBLR_REAL_TYPES(RECBLR_INSTANTIATE)

}  // namespace recblr::cuda
