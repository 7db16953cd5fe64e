// The second stage of sums over rows: blocks leave partial sums in scratch memory, one after another; these are added in
// their order, in double precision.  No bit depends on which block came first.
#pragma once
#include "device.cuh"

namespace recblr::cuda {

constexpr int kSumColumns = 8, kSumParts = 32, kSumThreads = kSumColumns * kSumParts;

struct ColumnSums {
  double at[kSumParts][kSumColumns];
};

// partial is (count, columns).  The sums of the first `split` columns go to `left`, the rest to `right`.
template <typename A>
__global__ void __launch_bounds__(kSumThreads)
    add_partials(const A* partial, std::int64_t count, std::int64_t columns, std::int64_t split, double* left, double* right) {
  RECBLR_SHARED(ColumnSums, sums);
  const int mine = static_cast<int>(threadIdx.x) % kSumColumns, part = static_cast<int>(threadIdx.x) / kSumColumns;
  const std::int64_t column = block_index() * kSumColumns + mine;
  double sum = 0;
  if (column < columns) {
#pragma unroll 4
    for (std::int64_t i = part; i < count; i += kSumParts) sum += static_cast<double>(partial[i * columns + column]);
  }
  sums.at[part][mine] = sum;
  __syncthreads();
  if (part != 0 || column >= columns) return;
  for (int k = 1; k < kSumParts; ++k) sum += sums.at[k][mine];
  (column < split ? left[column] : right[column - split]) = sum;
}

}  // namespace recblr::cuda
