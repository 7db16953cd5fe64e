// torch.ops.recblr._causal_conv1d and its derivative on a CUDA device.
#include "causal_conv1d.h"
#include "causal_conv1d_operators.h"
#include "device_cuda.h"

namespace recblr::torch_abi {
namespace {

struct ConvOnCuda : Cuda {
  using Cuda::Cuda;
  template <typename T>
  void forward(const ConvForward<T>& work) const {
    launch(&cuda::conv_forward<T>, work);
  }
  template <typename T>
  void backward(ConvBackward<T> work, const Tensor& dweight, const Tensor& dbias) const {
    const Tensor taps = empty_taps(work.in.extent.channels, work.in.width, aoti_torch_dtype_float64(), dweight);
    const Tensor bias = empty_dense(sizes_of(dbias), aoti_torch_dtype_float64(), dbias);
    work.dtaps = taps.data<double>(), work.dbias = bias.data<double>();
    launch(&cuda::conv_backward<T>, work);
    dweight.copy_from(taps);
    dbias.copy_from(bias);
  }
};

[[maybe_unused]] const bool registered = [] {
  TorchLibraryHandle library;  // lives as long as the process
  RECBLR_OK(aoti_torch_library_init_impl("recblr", "CUDA", "recblr/cpp/torch/causal_conv1d_cuda.cpp", 0, &library));
  implement_causal_conv1d<ConvOnCuda>(library);
  return true;
}();

}  // namespace
}  // namespace recblr::torch_abi
