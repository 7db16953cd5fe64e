// Shared by the operators that only training uses.
#pragma once
#include <string>

#include "arguments.h"
#include "views.h"

namespace recblr::torch_abi {

// Calls f(Element<T>()) if the dtype of t is float32 or float64.  Otherwise it refuses t.
template <typename F>
void with_float_or_double(const std::string& op, const char* name, const Tensor& t, F&& f) {
  check_aligned(op.c_str(), name, t);
  if (t.dtype() == aoti_torch_dtype_float32()) return f(Element<float>());
  if (t.dtype() == aoti_torch_dtype_float64()) return f(Element<double>());
  refuse(op + ": " + name + " must be float32 or float64, but is " + dtype_name(t.dtype()));
}

inline bool is_contiguous(const Tensor& t) {
  std::int64_t expected = 1;
  for (int i = t.dim() - 1; i >= 0; expected *= t.size(i--))
    if (t.size(i) != 1 && t.stride(i) != expected) return t.numel() == 0;
  return true;
}

}  // namespace recblr::torch_abi
