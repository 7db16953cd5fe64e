// The kernels of the catalogue.
#pragma once
#include <cstdint>

#include "core/dispatch.h"

namespace recblr::engine {

// out[i] = the score of row items[i], for i in the share: multiply_add over the width in order, from zero.
struct RowScores {
  using Share = Units;
  const float* rows;
  std::int64_t width;
  const float* vector;
  const std::int32_t* items;
  std::int32_t first;  // the number of the item in row 0
  float* out;
};

}  // namespace recblr::engine

namespace recblr {
RECBLR_KERNEL(engine::RowScores)
}
