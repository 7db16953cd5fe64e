// The scan for shapes whose sequences and channels occupy a GPU only partly.  Each block processes a few packs of
// channels of one sequence, and its warps share time.
//
// Time is divided into tiles, and a tile into chunks, one per thread.  A thread summarises its chunk from registers and
// shares the summary with the block.  It carries the state of the tile over the chunks before its own.  Then it scans
// its chunk from that state, again from registers.  So memory is read once, and the next tile is in flight meanwhile.
#pragma once
#include "scan_cells.cuh"

namespace recblr::cuda {

constexpr int kWarpThreads = 128, kWarpBlocks = 3;      // blocks per multiprocessor; limits the registers
constexpr int kWarpPacks = 8;                           // next to each other: 128 bytes of a row
constexpr int kWarpChunks = kWarpThreads / kWarpPacks;  // per tile
constexpr int kChunkSteps = 4;
constexpr int kTileSteps = kWarpChunks * kChunkSteps;

// Deep enough that the next chunk is in flight while one is scanned.  The ring is shorter if a step reads more arrays.
template <typename Cell>
using WarpRing = Ring<typename Cell::Element, Cell::kChannels, Cell::kArrays, Cell::kArrays == 2 ? 8 : 6, kWarpThreads>;

// The effect of each chunk of a tile on a state.  There are two buffers: some threads write the summaries of the next
// tile while others still read those of this one.
template <typename Cell>
struct alignas(16) TileSummaries {
  typename Cell::State product[2][kWarpThreads][Cell::kChannels], from_zero[2][kWarpThreads][Cell::kChannels];
};

template <typename Cell>
constexpr std::size_t kWarpBytes = WarpRing<Cell>::kBytes + sizeof(TileSummaries<Cell>);

RECBLR_EVERYWHERE std::int64_t warp_blocks(const Extent& e, int pack) {
  return (e.channels / pack + kWarpPacks - 1) / kWarpPacks;
}

template <typename Cell>
__global__ void __launch_bounds__(kWarpThreads, kWarpBlocks) scan_warps(const __grid_constant__ typename Cell::Work w) {
  using A = typename Cell::State;
  constexpr int N = Cell::kChannels;
  RECBLR_SHARED_BYTES(shared);
  auto& summaries = *reinterpret_cast<TileSummaries<Cell>*>(shared + WarpRing<Cell>::kBytes);
  const Extent& e = w.extent;
  Cell::zero_uncovered(w);
  const std::int64_t blocks = warp_blocks(e, N);
  if (block_index() >= e.sequences * blocks) return;
  const std::int64_t sequence = block_index() / blocks;
  const std::int64_t c = (block_index() % blocks * kWarpPacks + threadIdx.x % kWarpPacks) * N;
  const bool idle = c >= e.channels;  // still takes part in barriers
  const int chunk = static_cast<int>(threadIdx.x / kWarpPacks);
  const Walk walk(e, sequence);
  Cell cell(w, walk, idle ? 0 : c);
  const std::int64_t length = idle ? 0 : walk.length;
  // The ring holds only the steps of this thread: its chunk of each tile, one tile after another.
  const auto fetch = [&](std::int64_t n, int array) -> const typename Cell::Element* {
    const std::int64_t t = n / kChunkSteps * kTileSteps + chunk * kChunkSteps + n % kChunkSteps;
    return t < length ? cell.fetch(t, array) : nullptr;
  };
  A carry[N];
  load_state(Cell::starts(w), sequence, idle ? 0 : c, N, carry);
  WarpRing<Cell> ring(shared);
  ring.begin((walk.length + kTileSteps - 1) / kTileSteps * kChunkSteps, fetch);
  int turn = 0;
  for (std::int64_t tile = 0; tile < walk.length; tile += kTileSteps, turn ^= 1) {
    const std::int64_t first = tile + chunk * kChunkSteps;
    typename Cell::Inputs in[kChunkSteps];
    A product[N], from_zero[N];
#pragma unroll
    for (int k = 0; k < N; ++k) product[k] = Constant<A>::one(), from_zero[k] = Constant<A>::zero();
#pragma unroll
    for (int n = 0; n < kChunkSteps; ++n) {
      ring.next(fetch);
      ring.get(in[n]);
      if (first + n < length) Cell::summarise(in[n], product, from_zero);
    }
    copy_states<N>(product, summaries.product[turn][threadIdx.x]);
    copy_states<N>(from_zero, summaries.from_zero[turn][threadIdx.x]);
    __syncthreads();
    A state[N] = {};
#pragma unroll 2
    for (int n = 0; n < kWarpChunks; ++n) {
      const int other = n * kWarpPacks + static_cast<int>(threadIdx.x % kWarpPacks);
      copy_states<N>(summaries.product[turn][other], product);
      copy_states<N>(summaries.from_zero[turn][other], from_zero);
#pragma unroll
      for (int k = 0; k < N; ++k) {
        if (n == chunk) state[k] = carry[k];
        carry[k] = step_over(product[k], carry[k], from_zero[k]);
      }
    }
    if (first >= length) continue;
    cell.begin(state);
#pragma unroll
    for (int n = 0; n < kChunkSteps; ++n)
      if (first + n < length) cell.run(first + n, in[n]);
    if (first + kChunkSteps < length) continue;
    cell.end(state);
    store_state(Cell::results(w), sequence, c, N, state);
  }
  if (walk.length == 0 && chunk == 0 && !idle) store_state(Cell::results(w), sequence, c, N, carry);
}

}  // namespace recblr::cuda
