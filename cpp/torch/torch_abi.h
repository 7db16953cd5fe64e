// The part of LibTorch's stable C ABI that the operators use (torch >= 2.10), and a little C++ around it.
//
// The functions are declared here and not included from torch, so that building the package needs no torch.  So `pip
// install .` stays one small download for every version of torch, and the binary is always the same.
// tests/ops/test_abi.py compiles this file together with torch's own headers.  If a signature differs, the compiler
// reports an error.
#pragma once
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <utility>

extern "C" {
struct AtenTensorOpaque;
struct TorchLibraryOpaque;
using AtenTensorHandle = AtenTensorOpaque*;
using TorchLibraryHandle = TorchLibraryOpaque*;
using AOTITorchError = std::int32_t;
using StableIValue = std::uint64_t;
typedef void (*ParallelFunc)(std::int64_t begin, std::int64_t end, void* ctx);

AOTITorchError aoti_torch_library_init_impl(const char* ns, const char* key, const char* file, std::uint32_t line,
                                            TorchLibraryHandle*);
AOTITorchError torch_library_impl(TorchLibraryHandle, const char* name,
                                  void (*)(StableIValue*, std::uint64_t, std::uint64_t), std::uint64_t version);
AOTITorchError aoti_torch_delete_tensor_object(AtenTensorHandle);
AOTITorchError aoti_torch_empty_strided(std::int64_t ndim, const std::int64_t* sizes, const std::int64_t* strides,
                                        std::int32_t dtype, std::int32_t device_type, std::int32_t device_index,
                                        AtenTensorHandle*);
AOTITorchError aoti_torch_copy_(AtenTensorHandle self, AtenTensorHandle src, std::int32_t non_blocking);
AOTITorchError aoti_torch_zero_(AtenTensorHandle);
AOTITorchError aoti_torch_get_data_ptr(AtenTensorHandle, void**);
AOTITorchError aoti_torch_get_dim(AtenTensorHandle, std::int64_t*);
AOTITorchError aoti_torch_get_sizes(AtenTensorHandle, std::int64_t**);
AOTITorchError aoti_torch_get_strides(AtenTensorHandle, std::int64_t**);
AOTITorchError aoti_torch_get_dtype(AtenTensorHandle, std::int32_t*);
AOTITorchError aoti_torch_get_device_type(AtenTensorHandle, std::int32_t*);
AOTITorchError aoti_torch_get_device_index(AtenTensorHandle, std::int32_t*);
AOTITorchError aoti_torch_create_tensor_from_blob(void* data, std::int64_t ndim, const std::int64_t* sizes,
                                                  const std::int64_t* strides, std::int64_t storage_offset,
                                                  std::int32_t dtype, std::int32_t device_type,
                                                  std::int32_t device_index, AtenTensorHandle*);
AOTITorchError aoti_torch_cpu_addmm_out(AtenTensorHandle out, AtenTensorHandle self, AtenTensorHandle a,
                                        AtenTensorHandle b, double beta, double alpha);
AOTITorchError aoti_torch_cpu_mm_out(AtenTensorHandle out, AtenTensorHandle a, AtenTensorHandle b);
AOTITorchError torch_parallel_for(std::int64_t begin, std::int64_t end, std::int64_t grain, ParallelFunc, void* ctx);
AOTITorchError torch_get_num_threads(std::uint32_t*);
std::int32_t aoti_torch_device_type_cpu();
std::int32_t aoti_torch_dtype_uint8();
std::int32_t aoti_torch_dtype_float16();
std::int32_t aoti_torch_dtype_bfloat16();
std::int32_t aoti_torch_dtype_float32();
std::int32_t aoti_torch_dtype_float64();
std::int32_t aoti_torch_dtype_complex64();
std::int32_t aoti_torch_dtype_complex128();
std::int32_t aoti_torch_dtype_int32();
std::int32_t aoti_torch_dtype_int64();
// Exists from torch 2.13 on; null in earlier versions.
__attribute__((weak)) const char* torch_exception_get_what_without_backtrace();
}

namespace recblr::torch_abi {

// The version of torch whose conventions the kernels below follow: 2.10.
constexpr std::uint64_t kVersion = (std::uint64_t{2} << 56) | (std::uint64_t{10} << 48);

// The C ABI turns torch's exceptions into codes. torch 2.13 and later keep the text; earlier versions print it to
// stderr.
inline void ok(AOTITorchError error, const char* what) {
  if (error == 0) return;
  if (torch_exception_get_what_without_backtrace)
    throw std::runtime_error(torch_exception_get_what_without_backtrace());
  throw std::runtime_error(std::string("torch failed in ") + what + "; its message is on stderr");
}
#define RECBLR_OK(call) ::recblr::torch_abi::ok((call), #call)

template <typename T>
T unbox(StableIValue v) {
  T t;
  std::memcpy(&t, &v, sizeof t);
  return t;
}
template <typename T>
StableIValue box(T t) {
  StableIValue v = 0;
  std::memcpy(&v, &t, sizeof t);
  return v;
}

// Owns one tensor handle, or none if an optional argument is absent.
class Tensor {
 public:
  Tensor() = default;
  explicit Tensor(AtenTensorHandle h) : handle_(h) {
    RECBLR_OK(aoti_torch_get_sizes(h, &sizes_));
    RECBLR_OK(aoti_torch_get_strides(h, &strides_));
    dim_ = static_cast<int>(get<std::int64_t>(aoti_torch_get_dim));
    dtype_ = get<std::int32_t>(aoti_torch_get_dtype);
  }
  Tensor(Tensor&& o) noexcept { swap(o); }
  Tensor& operator=(Tensor&& o) noexcept {
    swap(o);
    return *this;
  }
  ~Tensor() {
    if (handle_) aoti_torch_delete_tensor_object(handle_);
  }

  static Tensor required(StableIValue v) { return Tensor(unbox<AtenTensorHandle>(v)); }
  // A present optional arrives as a pointer to a value on the heap, which the callee frees.
  static Tensor optional(StableIValue v) {
    auto* held = unbox<StableIValue*>(v);
    if (!held) return {};
    const StableIValue value = *held;
    delete held;
    return required(value);
  }
  static Tensor empty(int dim, const std::int64_t* sizes, const std::int64_t* strides, std::int32_t dtype,
                      const Tensor& on) {
    AtenTensorHandle h;
    RECBLR_OK(aoti_torch_empty_strided(dim, sizes, strides, dtype, on.device_type(), on.device_index(), &h));
    return Tensor(h);
  }

  // A matrix over memory that it does not own.
  static Tensor over(const void* data, std::int64_t rows, std::int64_t columns, std::int64_t row_stride,
                     std::int64_t column_stride, const Tensor& like) {
    const std::int64_t sizes[2] = {rows, columns}, strides[2] = {row_stride, column_stride};
    AtenTensorHandle h;
    RECBLR_OK(aoti_torch_create_tensor_from_blob(const_cast<void*>(data), 2, sizes, strides, 0, like.dtype_,
                                                 like.get<std::int32_t>(aoti_torch_get_device_type),
                                                 like.get<std::int32_t>(aoti_torch_get_device_index), &h));
    return Tensor(h);
  }

  explicit operator bool() const { return handle_ != nullptr; }
  int dim() const { return dim_; }
  std::int64_t size(int i) const { return sizes_[i]; }
  std::int64_t stride(int i) const { return strides_[i]; }
  const std::int64_t* sizes() const { return sizes_; }
  const std::int64_t* strides() const { return strides_; }
  std::int32_t dtype() const { return dtype_; }
  std::int64_t numel() const {
    std::int64_t n = 1;
    for (int i = 0; i < dim_; ++i) n *= sizes_[i];
    return n;
  }
  std::int32_t device_type() const { return get<std::int32_t>(aoti_torch_get_device_type); }
  std::int32_t device_index() const { return get<std::int32_t>(aoti_torch_get_device_index); }
  template <typename T>
  T* data() const {
    return static_cast<T*>(get<void*>(aoti_torch_get_data_ptr));
  }
  void zero() const { RECBLR_OK(aoti_torch_zero_(handle_)); }
  void copy_from(const Tensor& source) const { RECBLR_OK(aoti_torch_copy_(handle_, source.handle_, 0)); }
  // out = a b, or out += a b.  On one of torch's own threads, it runs on this thread alone.
  friend void multiply(const Tensor& out, const Tensor& a, const Tensor& b, bool add) {
    RECBLR_OK(add ? aoti_torch_cpu_addmm_out(out.handle_, out.handle_, a.handle_, b.handle_, 1, 1)
                  : aoti_torch_cpu_mm_out(out.handle_, a.handle_, b.handle_));
  }
  StableIValue release() { return box(std::exchange(handle_, nullptr)); }

 private:
  void swap(Tensor& o) noexcept {
    std::swap(handle_, o.handle_);
    std::swap(sizes_, o.sizes_);
    std::swap(strides_, o.strides_);
    std::swap(dim_, o.dim_);
    std::swap(dtype_, o.dtype_);
  }
  template <typename T>
  T get(AOTITorchError (*f)(AtenTensorHandle, T*)) const {
    T t{};
    RECBLR_OK(f(handle_, &t));
    return t;
  }
  AtenTensorHandle handle_ = nullptr;
  std::int64_t* sizes_ = nullptr;
  std::int64_t* strides_ = nullptr;
  int dim_ = 0;
  std::int32_t dtype_ = 0;
};

}  // namespace recblr::torch_abi
