// The scan for shapes whose sequences and channels alone occupy a GPU.  Each thread processes a pack of channels of one
// sequence or segment, serially in time, while the loads of the next steps are in flight.
#pragma once
#include "scan_cells.cuh"

namespace recblr::cuda {

constexpr int kRowThreads = 128, kRowStages = 8;

template <typename Cell>
using RowRing = Ring<typename Cell::Element, Cell::kChannels, Cell::kArrays, kRowStages, kRowThreads>;

template <typename Cell>
__global__ void __launch_bounds__(kRowThreads) scan_rows(const __grid_constant__ typename Cell::Work w) {
  constexpr int N = Cell::kChannels;
  RECBLR_SHARED_BYTES(shared);
  const Extent& e = w.extent;
  Cell::zero_uncovered(w);
  const std::int64_t packs = e.channels / N;
  if (thread_index() >= (e.segments ? e.segment_count : e.sequences) * packs) return;
  const std::int64_t index = thread_index() / packs, c = thread_index() % packs * N;
  const Walk walk(e, index);
  Cell cell(w, walk, c);
  const auto fetch = [&](std::int64_t t, int array) { return cell.fetch(t, array); };
  typename Cell::State state[N];
  load_state(Cell::starts(w), index, c, N, state);
  cell.begin(state);
  RowRing<Cell> ring(shared);
  ring.begin(walk.length, fetch);
  for (std::int64_t t = 0; t < walk.length; ++t) {
    typename Cell::Inputs in;
    ring.next(fetch);
    ring.get(in);
    cell.run(t, in);
  }
  cell.end(state);
  if (Cell::ends(walk)) store_state(Cell::results(w), walk.sequence, c, N, state);
}

}  // namespace recblr::cuda
