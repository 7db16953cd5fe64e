// Offsets on a device, whose values the host has not checked.  One small kernel clamps and orders them, so that later
// kernels may trust them.
#pragma once
#include "formulas.cuh"

namespace recblr::cuda {

constexpr int kOffsetThreads = 256;

// Offset i, clamped to 0 .. rows.  If offsets are out of order, kernels see the largest offset up to each place.
struct RawOffsets {
  DeviceOffsets from;
  std::int64_t count, rows;
  RECBLR_HD std::int64_t at(std::int64_t i) const {
    const std::int64_t value = from.wide ? static_cast<const std::int64_t*>(from.data)[i * from.stride]
                                         : static_cast<const std::int32_t*>(from.data)[i * from.stride];
    return value < 0 ? 0 : value > rows ? rows : value;
  }
};

struct OffsetMaxima {
  std::int64_t at[kOffsetThreads];
};

// Runs as one block.  Each thread finds the largest offset of its share.  Then it goes through its share again,
// beginning with the largest offset before it.
template <int kThreads>
__global__ void __launch_bounds__(kThreads, 1) order_offsets(const RawOffsets raw, std::int64_t* to) {
  RECBLR_SHARED(OffsetMaxima, maxima);
  const std::int64_t share = (raw.count + kThreads - 1) / kThreads;
  const std::int64_t begin = threadIdx.x * share, end = begin + share < raw.count ? begin + share : raw.count;
  std::int64_t largest = 0;
  for (std::int64_t i = begin; i < end; ++i) {
    const std::int64_t value = raw.at(i);
    if (value > largest) largest = value;
  }
  maxima.at[threadIdx.x] = largest;
  __syncthreads();
  largest = 0;
  for (unsigned k = 0; k < threadIdx.x; ++k)
    if (maxima.at[k] > largest) largest = maxima.at[k];
  for (std::int64_t i = begin; i < end; ++i) {
    const std::int64_t value = raw.at(i);
    if (value > largest) largest = value;
    to[i] = largest;
  }
}

// Sets extent.offsets to offsets that kernels may trust.  It does nothing if the extent is not packed.
inline const char* trust_offsets(Extent& extent, const DeviceOffsets& offsets, const Launch& to) {
  if (!offsets.data) return nullptr;
  const std::int64_t count = extent.sequences + 1;
  auto* trusted = scratch<std::int64_t>(to, count);
  if (!trusted) return kNoMemory;
  extent.offsets = trusted;
  const RawOffsets raw{offsets, count, extent.rows};
  return launch<order_offsets<kOffsetThreads>>(1, kOffsetThreads, 0, to, raw, trusted);
}

// Writes zeros into the rows that no sequence covers: those before the first sequence and after the last.  All threads
// of the grid must call it.
template <typename T>
RECBLR_HD void zero_uncovered(const Extent& e, const View<T>& v) {
  if (!e.offsets || !v.data) return;
  const std::int64_t before = e.offsets[0], behind = e.rows - e.offsets[e.sequences],
                     covered = e.rows - before - behind;
  for (std::int64_t i = thread_index(); i < (before + behind) * e.channels; i += thread_count()) {
    const std::int64_t n = i / e.channels, row = n < before ? n : n + covered;
    put(v.data[row * v.time + i % e.channels * v.channel], Accumulate<T>());
  }
}

}  // namespace recblr::cuda
