// The CUDA device for the operators: its stream, scratch memory on it, and offsets.  The host does not read the
// offsets, because it would have to wait for the device. device_cpu.h is its counterpart.
#pragma once
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <string>
#include <vector>

#include "launch.h"
#include "arguments.h"
#include "cuda_abi.h"
#include "views.h"

namespace recblr::torch_abi {

// Makes a device the current one.  The destructor restores the previous one.
class DeviceGuard {
 public:
  explicit DeviceGuard(std::int32_t index) { RECBLR_OK(aoti_torch_create_device_guard(index, &handle_)); }
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;
  ~DeviceGuard() { aoti_torch_delete_device_guard(handle_); }

 private:
  DeviceGuardHandle handle_;
};

// RECBLR_CUDA_REGIME, which tests set to force a regime that a shape would not get by itself. 0 if it is not set.
inline int forced_regime() {
  const char* said = std::getenv("RECBLR_CUDA_REGIME");
  return said && said[0] >= '1' && said[0] <= '3' && !said[1] ? said[0] - '0' : 0;
}

class Cuda {
 public:
  // x and offsets have passed `sequences` and `check_device`.
  Cuda(const char* op, const Tensor& x, const Tensor& offsets) : op_(op), x_(x), guard_(x.device_index()) {
    RECBLR_OK(aoti_torch_get_current_cuda_stream(x.device_index(), &stream_));
    if (!offsets) return;
    offsets_ = {offsets.data<void>(), offsets.dtype() == aoti_torch_dtype_int64(), offsets.stride(0)};
    if (reinterpret_cast<std::uintptr_t>(offsets_.data) % (offsets_.wide ? 8 : 4) != 0)
      refuse(std::string(op) + ": offsets must be aligned to its elements; pass a copy");
  }

  Extent extent(Extent s, bool reverse = false) const {
    s.reverse = reverse;
    return s;
  }

 protected:
  // Calls launcher(work, offsets, launch).  Scratch memory goes back to torch's allocator right after the launch.  This
  // is safe: its next user on this stream runs after the kernels.
  template <typename Launcher, typename Work>
  void launch(Launcher launcher, const Work& work) const {
    Scratch scratch{x_, {}, {}};
    const cuda::Launch how{stream_, x_.device_index(), forced_regime(), &Scratch::allocate, &scratch};
    const char* problem = launcher(work, offsets_, how);
    if (scratch.failure) std::rethrow_exception(scratch.failure);
    if (problem) throw std::runtime_error(std::string("CUDA could not run ") + op_ + ": " + problem);
  }

 private:
  struct Scratch {
    const Tensor& on;
    std::vector<Tensor> held;
    std::exception_ptr failure;

    static void* allocate(void* context, std::size_t bytes) noexcept {
      auto& scratch = *static_cast<Scratch*>(context);
      try {
        const auto size = static_cast<std::int64_t>(bytes);
        const std::int64_t stride = 1;
        scratch.held.push_back(Tensor::empty(1, &size, &stride, aoti_torch_dtype_uint8(), scratch.on));
        return scratch.held.back().data<void>();
      } catch (...) {
        scratch.failure = std::current_exception();  // torch's own error: out of memory
        return nullptr;
      }
    }
  };

  const char* op_;
  const Tensor& x_;
  DeviceGuard guard_;
  void* stream_ = nullptr;
  cuda::DeviceOffsets offsets_;
};

}  // namespace recblr::torch_abi
