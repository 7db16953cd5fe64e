// Sums over an array's rows, in an order that its shape alone decides: of every kSumRows rows, then of those sums.
#pragma once
#include "device.cuh"

namespace recblr::cuda {

constexpr int kSumThreads = 128;
constexpr std::int64_t kSumRows = 32;

// parts (count, width); of its rows [32 n, 32 n + 32), the sum is row n of sums (groups, width).
template <typename To>
__global__ void __launch_bounds__(kSumThreads) add_rows(const double* parts, std::int64_t count, std::int64_t width, std::int64_t groups, To* sums) {
  if (thread_index() >= groups * width) return;
  const std::int64_t first = thread_index() / width * kSumRows, column = thread_index() % width;
  const std::int64_t end = first + kSumRows < count ? first + kSumRows : count;
  double sum = 0;
#pragma unroll 8
  for (std::int64_t row = first; row < end; ++row) sum += parts[row * width + column];
  sums[thread_index()] = static_cast<To>(sum);
}

// sums (width): of all rows of parts (count, width).
template <typename To>
const char* sum_rows(const double* parts, std::int64_t count, std::int64_t width, To* sums, const Launch& to) {
  const auto blocks = [&](std::int64_t groups) { return (groups * width + kSumThreads - 1) / kSumThreads; };
  while (count > kSumRows) {
    const std::int64_t groups = (count + kSumRows - 1) / kSumRows;
    auto* next = static_cast<double*>(to.allocate(to.context, static_cast<std::size_t>(groups * width) * sizeof(double)));
    if (!next) return "out of memory on the device";
    if (const char* error = launch(add_rows<double>, blocks(groups), kSumThreads, 0, to, parts, count, width, groups, next)) return error;
    parts = next, count = groups;
  }
  return launch(add_rows<To>, blocks(1), kSumThreads, 0, to, parts, count, width, std::int64_t{1}, sums);
}

}  // namespace recblr::cuda
