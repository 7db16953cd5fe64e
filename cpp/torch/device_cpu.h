// The CPU for the operators: offsets that have been read and checked, torch's threads, and sums over runs.
// device_cuda.h is its counterpart.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "arguments.h"
#include "core/offsets.h"
#include "core/tasks.h"
#include "views.h"

namespace recblr::torch_abi {

template <typename Int>
std::vector<std::int64_t> read_offsets(const Tensor& offsets) {
  std::vector<std::int64_t> values(static_cast<std::size_t>(offsets.size(0)));
  const char* data = offsets.data<char>();  // may be unaligned
  for (std::size_t i = 0; i < values.size(); ++i) {
    Int value;
    std::memcpy(&value, data + static_cast<std::int64_t>(i * sizeof value) * offsets.stride(0), sizeof value);
    values[i] = value;
  }
  return values;
}

class Cpu {
 public:
  // x and offsets have passed `sequences`.
  Cpu(const char* op, const Tensor& x, const Tensor& offsets) {
    if (!offsets) return;
    offsets_ = offsets.dtype() == aoti_torch_dtype_int64() ? read_offsets<std::int64_t>(offsets)
                                                           : read_offsets<std::int32_t>(offsets);
    const std::string problem = offsets_problem(offsets_.data(), offsets_.size(), x.size(0));
    if (!problem.empty()) refuse(std::string(op) + ": " + problem);
  }

  Extent extent(Extent s, bool reverse = false) const {
    s.reverse = reverse;
    if (!offsets_.empty()) s.offsets = offsets_.data();
    return s;
  }

 private:
  std::vector<std::int64_t> offsets_;
};

// Runs the tasks on torch's threads.
template <typename F>
void over_tasks(Tasks tasks, const F& f) {
  // So many elements per thread that waking a thread costs little.
  constexpr std::int64_t kElementsPerThread = 4096;
  std::uint32_t available = 1;
  RECBLR_OK(torch_get_num_threads(&available));
  const std::int64_t threads =
      std::max<std::int64_t>(1, std::min<std::int64_t>(available, tasks.elements() / kElementsPerThread));
  tasks.divide_channels(threads);
  const std::vector<std::int64_t> shares = tasks.shares(threads);
  ParallelFor()(threads, kElementsPerThread * 10, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = shares[static_cast<std::size_t>(begin)]; i < shares[static_cast<std::size_t>(end)]; ++i)
      f(tasks[i]);
  });
}

// Sums parts (runs, count) over the runs, in their order, into out.
template <typename A>
void add_runs(const std::vector<double>& parts, std::int64_t runs, std::int64_t count, A* out) {
  std::vector<double> sum(static_cast<std::size_t>(count));
  const double* part = parts.data();
  for (std::int64_t run = 0; run < runs; ++run)
    for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += *part++;
  for (std::size_t i = 0; i < sum.size(); ++i) out[i] = static_cast<A>(sum[i]);
}

}  // namespace recblr::torch_abi
