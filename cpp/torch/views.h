// Views of tensors for the kernels, and the work of the kernels on torch's threads.
#pragma once
#include <cstdint>
#include <type_traits>

#include "arguments.h"
#include "core/scan.h"

namespace recblr::torch_abi {

template <typename T>
View<T> view(const Tensor& t) {
  View<T> v;
  v.data = t.data<std::remove_const_t<T>>();
  v.sequence = t.dim() == 3 ? t.stride(0) : 0;
  v.time = t.stride(t.dim() - 2);
  v.channel = t.stride(t.dim() - 1);
  return v;
}

template <typename T>
View<T> state_view(const Tensor& t) {
  View<T> v;
  if (!t) return v;
  v.data = t.data<std::remove_const_t<T>>();
  v.sequence = t.stride(0);
  v.channel = t.stride(1);
  return v;
}

// A view that repeats one row (C) as every row of an array.
template <typename T>
View<T> every_row(const Tensor& row) {
  return {row.data<std::remove_const_t<T>>(), 0, 0, 1};
}

// Shares units among torch's threads.
struct ParallelFor {
  template <typename F>
  void operator()(std::int64_t units, std::int64_t elements_per_unit, const F& f) const {
    // So many elements per task that starting it costs little compared with doing it.
    constexpr std::int64_t kElementsPerTask = 32768;
    if (units == 0) return;
    RECBLR_OK(torch_parallel_for(
        0, units, kElementsPerTask / (elements_per_unit + 1) + 1,
        [](std::int64_t begin, std::int64_t end, void* f) { (*static_cast<const F*>(f))(begin, end); },
        const_cast<void*>(static_cast<const void*>(&f))));
  }
};

}  // namespace recblr::torch_abi
