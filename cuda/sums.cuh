// The second stage of sums over rows.  Blocks leave partial sums in scratch memory, one row after another.  First every
// kSumRows rows are added, then those sums.  The order depends only on the number of rows.
#pragma once
#include "device.cuh"

namespace recblr::cuda {

constexpr int kSumThreads = 128;
constexpr std::int64_t kSumRows = 32;

// parts is (count, width).  Row n of sums (groups, width) is the sum of the rows [32 n, 32 n + 32) of parts.  If there
// is only one group, the columns from `split` on go to `rest` instead.
template <typename From, typename To>
__global__ void __launch_bounds__(kSumThreads) add_rows(const From* parts, std::int64_t count, std::int64_t width,
                                                        std::int64_t groups, To* sums, std::int64_t split, To* rest) {
  if (thread_index() >= groups * width) return;
  const std::int64_t first = thread_index() / width * kSumRows, column = thread_index() % width;
  const std::int64_t end = first + kSumRows < count ? first + kSumRows : count;
  double sum = 0;
#pragma unroll 8
  for (std::int64_t row = first; row < end; ++row) sum += static_cast<double>(parts[row * width + column]);
  (column < split ? sums[thread_index()] : rest[column - split]) = static_cast<To>(sum);
}

// Adds up all rows of parts (count, width).  The columns before `split` go to sums, the others to rest.
template <typename From, typename To>
const char* sum_rows(const From* parts, std::int64_t count, std::int64_t width, To* sums, std::int64_t split, To* rest,
                     const Launch& to) {
  const std::int64_t groups = count > kSumRows ? (count + kSumRows - 1) / kSumRows : 1;
  const std::int64_t blocks = (groups * width + kSumThreads - 1) / kSumThreads;
  if (groups == 1)
    return launch<add_rows<From, To>>(blocks, kSumThreads, 0, to, parts, count, width, groups, sums, split, rest);
  auto* next = scratch<double>(to, groups * width);
  if (!next) return kNoMemory;
  double* const none = nullptr;
  if (const char* error =
          launch<add_rows<From, double>>(blocks, kSumThreads, 0, to, parts, count, width, groups, next, width, none))
    return error;
  return sum_rows(static_cast<const double*>(next), groups, width, sums, split, rest, to);
}
template <typename To>
const char* sum_rows(const double* parts, std::int64_t count, std::int64_t width, To* sums, const Launch& to) {
  return sum_rows(parts, count, width, sums, width, static_cast<To*>(nullptr), to);
}

}  // namespace recblr::cuda
