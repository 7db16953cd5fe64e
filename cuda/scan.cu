// Chooses how a scan is divided on a GPU, from its shape and the number of multiprocessors, and launches it.
#include "scan.h"

#include "packs.h"
#include "regimes.h"
#include "scan_split.cuh"
#include "scan_warps.cuh"

namespace recblr::cuda {
namespace {

template <typename T>
int pack_of(const ScanForward<T>& w) {
  return channels_in_pack<T>(w.extent, w.a, w.b, w.h);
}
template <typename T>
int pack_of(const ScanBackward<T>& w) {
  return channels_in_pack<T>(w.extent, w.dh, w.a, w.h, w.da, w.db);
}

// The number of blocks to launch: at least one if packed, because some rows may belong to no sequence and must become
// zero.
std::int64_t at_least_for_zeros(std::int64_t blocks, const Extent& e) { return blocks == 0 && e.offsets ? 1 : blocks; }

template <typename Cell>
const char* rows(const typename Cell::Work& w, const Launch& to) {
  const Extent& e = w.extent;
  const std::int64_t blocks = (e.sequences * (e.channels / Cell::kChannels) + kRowThreads - 1) / kRowThreads;
  return launch<scan_rows<Cell>>(at_least_for_zeros(blocks, e), kRowThreads, RowRing<Cell>::kBytes, to, w);
}
template <typename Cell>
const char* warps(const typename Cell::Work& w, const Launch& to) {
  const Extent& e = w.extent;
  const std::int64_t blocks = e.sequences * warp_blocks(e, Cell::kChannels);
  return launch<scan_warps<Cell>>(at_least_for_zeros(blocks, e), kWarpThreads, kWarpBytes<Cell>, to, w);
}

// Complex numbers are scanned only by rows, because recommenders do not use them.  With all regimes, they would be half
// of all kernels.
template <typename T>
constexpr bool kRowsAlone = false;
template <typename T>
constexpr bool kRowsAlone<Complex<T>> = true;

template <template <typename, int> class Cell, typename T, typename Work>
const char* run(Work work, const DeviceOffsets& offsets, const Launch& to) {
  const int regime = chosen_regime(work, offsets, to);
  const std::int64_t steps = segment_steps(WorkShape(work.extent, offsets.data, sizeof(T)));
  if (const char* error = trust_offsets(work.extent, offsets, to)) return error;
  return with_pack<T>(pack_of(work), [&](auto n) {
    using C = Cell<T, decltype(n)::value>;
    if constexpr (!kRowsAlone<T>) {
      if (regime == kWarps) return warps<C>(work, to);
      if (regime == kSplit) return scan_split<C>(work, steps, to);
    }
    return rows<C>(work, to);
  });
}

template <typename T>
int choose(const Extent& e, const DeviceOffsets& offsets, const Launch& to) {
  if (kRowsAlone<T> || e.sequences == 0) return kRows;
  return to.regime ? to.regime : chosen_regime(WorkShape(e, offsets.data, sizeof(T)), multiprocessors(to));
}

}  // namespace

template <typename T>
int chosen_regime(const ScanForward<T>& work, const DeviceOffsets& offsets, const Launch& to) {
  return choose<T>(work.extent, offsets, to);
}
template <typename T>
int chosen_regime(const ScanBackward<T>& work, const DeviceOffsets& offsets, const Launch& to) {
  return choose<T>(work.extent, offsets, to);
}

template <typename T>
const char* scan_forward(const ScanForward<T>& work, const DeviceOffsets& offsets, const Launch& to) {
  if (!offsets.data && work.extent.length == 0 && !work.final.data) return nullptr;  // for any number of sequences
  return run<ScanCell, T>(work, offsets, to);
}
template <typename T>
const char* scan_backward(const ScanBackward<T>& work, const DeviceOffsets& offsets, const Launch& to) {
  return run<AdjointCell, T>(work, offsets, to);
}

#define RECBLR_INSTANTIATE(T)                                                                    \
  template int chosen_regime(const ScanForward<T>&, const DeviceOffsets&, const Launch&);        \
  template int chosen_regime(const ScanBackward<T>&, const DeviceOffsets&, const Launch&);       \
  template const char* scan_forward(const ScanForward<T>&, const DeviceOffsets&, const Launch&); \
  template const char* scan_backward(const ScanBackward<T>&, const DeviceOffsets&, const Launch&);
RECBLR_ELEMENT_TYPES(RECBLR_INSTANTIATE)

}  // namespace recblr::cuda
