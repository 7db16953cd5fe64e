// Shared by the entry points of the fused operators: checks and copies of their arguments.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "views.h"

namespace recblr::torch_abi {

// Calls f(Element<T>()) with the real element type of dtype d.
template <typename F>
void with_real(const char* op, const Tensor& x, F&& f) {
  const std::int32_t d = x.dtype();
  if (d == aoti_torch_dtype_float32()) return f(Element<float>());
  if (d == aoti_torch_dtype_bfloat16()) return f(Element<Bfloat16>());
  if (d == aoti_torch_dtype_float16()) return f(Element<Float16>());
  if (d == aoti_torch_dtype_float64()) return f(Element<double>());
  refuse(std::string(op) + ": x must be float32, float64, bfloat16 or float16, but is " + dtype_name(d));
}

// A new contiguous tensor of up to three axes.
inline Tensor empty_dense(const std::vector<std::int64_t>& sizes, std::int32_t dtype, const Tensor& like) {
  const int dim = static_cast<int>(sizes.size());
  std::int64_t strides[3] = {1, 1, 1};
  for (int i = dim - 2; i >= 0; --i) strides[i] = strides[i + 1] * (sizes.data()[i + 1] > 0 ? sizes.data()[i + 1] : 1);
  return Tensor::empty(dim, sizes.data(), strides, dtype, like);
}
inline std::vector<std::int64_t> sizes_of(const Tensor& t) { return {t.sizes(), t.sizes() + t.dim()}; }

// The kernels need channels that are neighbours in memory; rows may lie anywhere.  A tensor with another layout is
// copied.
inline Tensor with_adjacent_channels(Tensor t) {
  if (!t || t.stride(t.dim() - 1) == 1 || t.size(t.dim() - 1) <= 1) return t;
  Tensor copy = empty_dense(sizes_of(t), t.dtype(), t);
  copy.copy_from(t);
  return copy;
}

inline void check_shape(const char* op, const char* name, const Tensor& t, const std::vector<std::int64_t>& sizes,
                        std::int32_t dtype) {
  if (!t) return;
  if (sizes_of(t) != sizes) refuse(std::string(op) + ": " + name + " has the wrong shape " + shape(t));
  if (t.dtype() != dtype)
    refuse(std::string(op) + ": " + name + " must be " + dtype_name(dtype) + ", but is " + dtype_name(t.dtype()));
  check_aligned(op, name, t);
}

}  // namespace recblr::torch_abi
