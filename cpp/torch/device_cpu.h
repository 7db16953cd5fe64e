// What the operators need of a CPU: offsets that have been read and checked.  device_cuda.h is its counterpart.
#pragma once
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "arguments.h"
#include "offsets.h"
#include "views.h"

namespace recblr::torch_abi {

template <typename Int>
std::vector<std::int64_t> read_offsets(const Tensor& offsets) {
  std::vector<std::int64_t> values(static_cast<std::size_t>(offsets.size(0)));
  const char* data = offsets.data<char>();  // aligned or not
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
    offsets_ = offsets.dtype() == aoti_torch_dtype_int64() ? read_offsets<std::int64_t>(offsets) : read_offsets<std::int32_t>(offsets);
    const std::string problem = offsets_problem(offsets_.data(), offsets_.size(), x.size(0));
    if (!problem.empty()) refuse(std::string(op) + ": " + problem);
  }

  Extent extent(const Sequences& s, bool reverse = false) const {
    Extent e = torch_abi::extent(s, reverse);
    if (!offsets_.empty()) e.offsets = offsets_.data();
    return e;
  }

 private:
  std::vector<std::int64_t> offsets_;
};

}  // namespace recblr::torch_abi
