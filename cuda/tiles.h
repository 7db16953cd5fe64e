// How to divide an operator that carries nothing through time.  The rows of all sequences, one after another, are cut
// into tiles, and channels into groups of packs.  A block processes a few neighbouring tiles of one group; a thread
// processes one pack of channels of one tile.
//
// Only the shape decides which rows share a block, and so the bits of sums over rows.
#pragma once
#include <cstdint>

namespace recblr::cuda {

struct Tiles {
  std::int64_t rows = 0, tile = 1;  // all rows, and rows per tile
  std::int64_t groups = 1;          // each of at most 32 packs
  int lanes = 1, in_block = 1;      // packs per group, tiles per block

  std::int64_t row_blocks() const { return (rows + tile * in_block - 1) / (tile * in_block); }
  std::int64_t blocks() const { return row_blocks() * groups; }
};

// The number of rows of a tile.  It gives half a million threads, which occupy any GPU several times over.  It is at
// least 32, because a tile reads a few rows of its neighbours again.  It is at most 256: beyond that, longer tiles
// hardly make sums over tiles cheaper compared with the reads.
inline std::int64_t rows_in_tile(std::int64_t rows, std::int64_t packs) {
  constexpr std::int64_t kThreads = 1 << 19, kLeast = 32, kMost = 256;
  const std::int64_t even = rows / kThreads * packs + rows % kThreads * packs / kThreads;
  return even < kLeast ? kLeast : even > kMost ? kMost : even;
}

// Cuts `channels` into packs of `widest`, the size that fits the shape.  If addresses or strides allow only smaller
// packs of `pack`, there are more groups, each with the same number of packs.  So the same rows are in the same sums.
inline Tiles share_out(std::int64_t rows, std::int64_t channels, int widest, int pack, int threads, std::int64_t tile) {
  constexpr std::int64_t kLanes = 32;
  const std::int64_t packs = channels / widest, groups = (packs + kLanes - 1) / kLanes;
  Tiles t;
  t.rows = rows, t.tile = tile;
  t.lanes = static_cast<int>((packs + groups - 1) / groups), t.in_block = threads / t.lanes;
  t.groups = (channels / pack + t.lanes - 1) / t.lanes;
  return t;
}

}  // namespace recblr::cuda
