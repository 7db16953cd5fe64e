// Chooses how a scan is shared out on a GPU, from its shape and the number of multiprocessors, and launches it.
#include "scan.h"

#include "packs.h"
#include "scan_rows.cuh"

namespace recblr::cuda {
namespace {

// Of kernels with a thread for each pack of channels of each sequence; at least one, where there are rows to be zeroed.
std::int64_t row_blocks(const Extent& e, int pack) {
  const std::int64_t blocks = (e.sequences * (e.channels / pack) + kRowThreads - 1) / kRowThreads;
  return blocks == 0 && e.offsets ? 1 : blocks;
}

template <typename T>
int pack_of(const ScanForward<T>& w) {
  return channels_in_pack<T>(w.extent, w.a, w.b, w.h);
}
template <typename T>
int pack_of(const ScanBackward<T>& w) {
  return channels_in_pack<T>(w.extent, w.dh, w.a, w.h, w.da, w.db);
}

template <typename T>
const char* rows(const ScanForward<T>& w, const Launch& to) {
  return with_pack<T>(pack_of(w), [&](auto n) {
    constexpr int N = decltype(n)::value;
    return launch(scan_rows_forward<T, N>, row_blocks(w.extent, N), kRowThreads, ForwardRing<T, N>::kBytes, to, w);
  });
}
template <typename T>
const char* rows(const ScanBackward<T>& w, const Launch& to) {
  return with_pack<T>(pack_of(w), [&](auto n) {
    constexpr int N = decltype(n)::value;
    return launch(scan_rows_backward<T, N>, row_blocks(w.extent, N), kRowThreads, BackwardRing<T, N>::kBytes, to, w);
  });
}

template <typename Work>
const char* run(Work work, const DeviceOffsets& offsets, const Launch& to) {
  if (const char* error = trust_offsets(work.extent, offsets, to)) return error;
  return rows(work, to);
}

}  // namespace

template <typename T>
const char* scan_forward(const ScanForward<T>& work, const DeviceOffsets& offsets, const Launch& to) {
  if (!offsets.data && work.extent.length == 0 && !work.final.data) return nullptr;  // however many sequences
  return run(work, offsets, to);
}
template <typename T>
const char* scan_backward(const ScanBackward<T>& work, const DeviceOffsets& offsets, const Launch& to) {
  return run(work, offsets, to);
}

#define RECBLR_INSTANTIATE(T)                                                                        \
  template const char* scan_forward(const ScanForward<T>&, const DeviceOffsets&, const Launch&);   \
  template const char* scan_backward(const ScanBackward<T>&, const DeviceOffsets&, const Launch&);
RECBLR_ELEMENT_TYPES(RECBLR_INSTANTIATE)

}  // namespace recblr::cuda
