// torch.ops.recblr.scan and its variants on a CUDA device.
#include "scan.h"
#include "device_cuda.h"
#include "scan_operators.h"

namespace recblr::torch_abi {
namespace {

struct ScanOnCuda : Cuda {
  using Cuda::Cuda;
  template <typename T>
  void run(const ScanForward<T>& work) const {
    launch(&cuda::scan_forward<T>, work);
  }
  template <typename T>
  void run(const ScanBackward<T>& work) const {
    launch(&cuda::scan_backward<T>, work);
  }
};

[[maybe_unused]] const bool registered = [] {
  TorchLibraryHandle library;  // lives as long as the process
  RECBLR_OK(aoti_torch_library_init_impl("recblr", "CUDA", "recblr/cpp/torch/scan_cuda.cpp", 0, &library));
  implement_scan<ScanOnCuda>(library);
  return true;
}();

}  // namespace
}  // namespace recblr::torch_abi
