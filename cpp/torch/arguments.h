// Shared by the operators on every device: checks of arguments, shapes and layouts.
#pragma once
#include <cstdint>
#include <string>

#include "core/scan.h"
#include "torch_abi.h"

namespace recblr::torch_abi {

inline std::string shape(const Tensor& t) {
  std::string s = "(";
  for (int i = 0; i < t.dim(); ++i) s += (i ? ", " : "") + std::to_string(t.size(i));
  return s + (t.dim() == 1 ? ",)" : ")");
}

inline std::string dtype_name(std::int32_t d) {
  if (d == aoti_torch_dtype_float16()) return "float16";
  if (d == aoti_torch_dtype_bfloat16()) return "bfloat16";
  if (d == aoti_torch_dtype_float32()) return "float32";
  if (d == aoti_torch_dtype_float64()) return "float64";
  if (d == aoti_torch_dtype_complex64()) return "complex64";
  if (d == aoti_torch_dtype_complex128()) return "complex128";
  if (d == aoti_torch_dtype_int32()) return "int32";
  if (d == aoti_torch_dtype_int64()) return "int64";
  return "another dtype";
}

[[noreturn]] inline void refuse(const std::string& sentence) { throw std::invalid_argument(sentence); }

inline std::int32_t accumulation_dtype(std::int32_t d) {
  return d == aoti_torch_dtype_float16() || d == aoti_torch_dtype_bfloat16() ? aoti_torch_dtype_float32() : d;
}

template <typename T>
struct Element {
  using type = T;
};

// Calls f(Element<T>()) with the element type of dtype d.  Returns false if the scan does not support d.
template <typename F>
bool with_element(std::int32_t d, F&& f) {
  if (d == aoti_torch_dtype_float32()) return f(Element<float>()), true;
  if (d == aoti_torch_dtype_bfloat16()) return f(Element<Bfloat16>()), true;
  if (d == aoti_torch_dtype_float16()) return f(Element<Float16>()), true;
  if (d == aoti_torch_dtype_float64()) return f(Element<double>()), true;
  if (d == aoti_torch_dtype_complex64()) return f(Element<Complex<float>>()), true;
  if (d == aoti_torch_dtype_complex128()) return f(Element<Complex<double>>()), true;
  return false;
}

// A tensor over foreign memory, such as a buffer, may start between two elements.
inline void check_aligned(const char* op, const char* name, const Tensor& t) {
  with_element(t.dtype(), [&](auto element) {
    using T = typename decltype(element)::type;
    if (reinterpret_cast<std::uintptr_t>(t.data<T>()) % alignof(T) != 0)
      refuse(std::string(op) + ": " + name + " must be aligned to its elements; pass a copy");
  });
}

inline void check_same(const char* op, const char* name, const Tensor& t, const char* other_name, const Tensor& other) {
  bool same = t.dim() == other.dim();
  for (int i = 0; same && i < t.dim(); ++i) same = t.size(i) == other.size(i);
  if (!same)
    refuse(std::string(op) + ": " + name + " must have " + other_name + "'s shape " + shape(other) + ", but has " +
           shape(t));
  if (t.dtype() != other.dtype())
    refuse(std::string(op) + ": " + name + " must have " + other_name + "'s dtype " + dtype_name(other.dtype()) +
           ", but has " + dtype_name(t.dtype()));
  check_aligned(op, name, t);
}

inline void check_dtype(const char* op, const char* name, const Tensor& t) {
  if (!with_element(t.dtype(), [](auto) {}))
    refuse(std::string(op) + ": " + name +
           " must be float32, float64, bfloat16, float16, complex64 or complex128, but is " + dtype_name(t.dtype()));
  check_aligned(op, name, t);
}

inline std::string device_name(const Tensor& t) {
  return t.device_type() == aoti_torch_device_type_cpu() ? "cpu" : "cuda:" + std::to_string(t.device_index());
}

// The dispatcher does not check this: it looks only at the device that comes first in its order.
inline void check_device(const char* op, const char* name, const Tensor& t, const Tensor& x) {
  if (t && (t.device_type() != x.device_type() || t.device_index() != x.device_index()))
    refuse(std::string(op) + ": " + name + " must be on " + device_name(x) + ", but is on " + device_name(t));
}

// The extent of `x`, (B, T, C), or packed (N, C) with offsets.  Checks shapes and dtypes.  Each device checks the
// values of the offsets itself.
inline Extent sequences(const char* op, const char* name, const Tensor& x, const Tensor& offsets) {
  const std::string who = std::string(op) + ": ";
  if (!offsets) {
    if (x.dim() != 2 && x.dim() != 3) refuse(who + name + " must be (B, T, C), or (T, C), but has shape " + shape(x));
    return Extent::padded(x.dim() == 3 ? x.size(0) : 1, x.size(x.dim() - 2), x.size(x.dim() - 1));
  }
  if (x.dim() != 2) refuse(who + "with offsets, " + name + " must be packed (N, C), but has shape " + shape(x));
  if (offsets.dim() != 1 || offsets.size(0) < 1)
    refuse(who + "offsets must be (S + 1,), but has shape " + shape(offsets));
  if (offsets.dtype() != aoti_torch_dtype_int64() && offsets.dtype() != aoti_torch_dtype_int32())
    refuse(who + "offsets must be int64 or int32, but is " + dtype_name(offsets.dtype()));
  return Extent::packed(offsets.size(0) - 1, x.size(0), x.size(1));
}

inline void check_state(const char* op, const char* name, const Tensor& state, const Extent& s, std::int32_t dtype) {
  if (!state) return;
  if (state.dim() != 2 || state.size(0) != s.sequences || state.size(1) != s.channels)
    refuse(std::string(op) + ": " + name + " must have shape (" + std::to_string(s.sequences) + ", " +
           std::to_string(s.channels) + "), one state per sequence, but has " + shape(state));
  if (state.dtype() != accumulation_dtype(dtype))
    refuse(std::string(op) + ": " + name + " must be " + dtype_name(accumulation_dtype(dtype)) +
           ", the accumulation dtype, but is " + dtype_name(state.dtype()));
  check_aligned(op, name, state);
}

// A new tensor with one state per sequence, (sequences, channels), on the device of `like`.
inline Tensor empty_state(const Extent& s, std::int32_t dtype, const Tensor& like) {
  const std::int64_t sizes[2] = {s.sequences, s.channels};
  const std::int64_t strides[2] = {s.channels > 0 ? s.channels : 1, 1};
  return Tensor::empty(2, sizes, strides, accumulation_dtype(dtype), like);
}

// A new row of zeros.  It stands for every row of an absent cotangent.
inline Tensor zero_row(const Extent& s, const Tensor& like) {
  const std::int64_t stride = 1;
  Tensor row = Tensor::empty(1, &s.channels, &stride, like.dtype(), like);
  row.zero();
  return row;
}

// True if the elements fill memory without gap or overlap. ops/common/layout.py has the same rule for fake tensors.
inline bool is_dense(const Tensor& t) {
  bool used[3] = {false, false, false};
  std::int64_t expected = 1;
  for (int k = 0; k < t.dim(); ++k) {
    int next = -1;
    for (int i = 0; i < t.dim(); ++i)
      if (!used[i] && t.size(i) != 1 && t.stride(i) == expected) next = i;
    if (next < 0) break;
    used[next] = true;
    expected *= t.size(next);
  }
  return expected == t.numel() && t.numel() > 0;
}

// A new output: in the layout of `like` if that is dense, otherwise contiguous.
inline Tensor empty_in_layout_of(const Tensor& like) {
  std::int64_t contiguous[3] = {1, 1, 1};
  for (int i = like.dim() - 2; i >= 0; --i)
    contiguous[i] = contiguous[i + 1] * (like.size(i + 1) > 0 ? like.size(i + 1) : 1);
  return Tensor::empty(like.dim(), like.sizes(), is_dense(like) ? like.strides() : contiguous, like.dtype(), like);
}

}  // namespace recblr::torch_abi
