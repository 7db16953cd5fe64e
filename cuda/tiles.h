// How an operator without a carry through time is shared out: all sequences' rows, one after another, are cut into
// tiles, and channels into groups of packs.  A block takes a few neighbouring tiles of one group, a thread one pack of
// channels of one tile.
//
// Which rows share a block follows from the shape alone, and so do the bits of sums over them.
#pragma once
#include <cstdint>

namespace recblr::cuda {

struct Tiles {
  std::int64_t rows = 0, tile = 1;  // all rows, and those of a tile
  std::int64_t groups = 1;          // of at most 32 packs
  int lanes = 1, in_block = 1;      // packs of a group, tiles of a block

  std::int64_t row_blocks() const { return (rows + tile * in_block - 1) / (tile * in_block); }
  std::int64_t blocks() const { return row_blocks() * groups; }
};

// Rows of a tile: few enough for half a million threads, which occupy any GPU several times over; but at least 32,
// since a tile reads a few rows of its neighbours' again, and no more than 256, at which sums over tiles are next to
// nothing beside what is read.
inline std::int64_t rows_in_tile(std::int64_t rows, std::int64_t packs) {
  constexpr std::int64_t kThreads = 1 << 19, kLeast = 32, kMost = 256;
  const std::int64_t even = rows / kThreads * packs + rows % kThreads * packs / kThreads;
  return even < kLeast ? kLeast : even > kMost ? kMost : even;
}

// Cuts `channels` into packs of `widest`, which is what fits the shape.  Where addresses or strides leave a kernel with
// packs of `pack`, it takes more groups of as many packs: the same rows meet in the same sums.
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
