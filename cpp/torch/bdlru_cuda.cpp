// torch.ops.recblr._bdlru and its derivative on a CUDA device.
#include "bdlru.h"
#include "bdlru_operators.h"
#include "device_cuda.h"

namespace recblr::torch_abi {
namespace {

struct BdlruOnCuda : Cuda {
  using Cuda::Cuda;
  template <typename T>
  void forward(const BdlruForward<T>& work) const {
    launch(&cuda::bdlru_forward<T>, work);
  }
  template <typename T>
  void backward(BdlruBackward<T> work, const Tensor& ddecay) const {
    const Tensor sums = empty_dense(sizes_of(ddecay), aoti_torch_dtype_float64(), ddecay);
    work.ddecay = sums.data<double>();
    launch(&cuda::bdlru_backward<T>, work);
    ddecay.copy_from(sums);
  }
};

[[maybe_unused]] const bool registered = [] {
  TorchLibraryHandle library;  // lives as long as the process
  RECBLR_OK(aoti_torch_library_init_impl("recblr", "CUDA", "recblr/cpp/torch/bdlru_cuda.cpp", 0, &library));
  implement_bdlru<BdlruOnCuda>(library);
  return true;
}();

}  // namespace
}  // namespace recblr::torch_abi
