// How an operator without a carry through time is shared out: all sequences' rows, one after another, are cut into
// tiles, and channels into groups of packs.  A block takes a few neighbouring tiles of one group, a thread one pack of
// channels of one tile.
//
// It follows from the shape alone, as bits of sums over tiles do.
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

// Rows of a tile: few enough for half a million threads, which occupy any GPU several times over; but at least 32, since
// a tile reads a few rows of its neighbours' again, and no more than 256, which leave sums over tiles a hundredth of what
// is read.
inline std::int64_t rows_in_tile(std::int64_t rows, std::int64_t packs) {
  constexpr std::int64_t kThreads = 1 << 19, kLeast = 32, kMost = 256;
  const std::int64_t even = rows / kThreads * packs + rows % kThreads * packs / kThreads;
  return even < kLeast ? kLeast : even > kMost ? kMost : even;
}

inline Tiles share_out(std::int64_t rows, std::int64_t packs, int threads, std::int64_t tile) {
  constexpr std::int64_t kLanes = 32;
  Tiles t;
  t.rows = rows, t.tile = tile;
  t.groups = packs > 0 ? (packs + kLanes - 1) / kLanes : 0;
  t.lanes = static_cast<int>(packs > 0 ? (packs + t.groups - 1) / t.groups : 1);
  t.in_block = threads / t.lanes;
  return t;
}

}  // namespace recblr::cuda
