// Launches the causal convolution and its adjoint on a CUDA device.  Work is as on the CPU (cpp/core/causal_conv1d.h),
// with device pointers; but dtaps and dbias get the sums over all rows, (K, C) and (C).
#pragma once
#include "../cpp/core/causal_conv1d.h"
#include "launch.h"

namespace recblr::cuda {

// Enqueue on the stream, and return null or CUDA's error as text.  T is float, double, Bfloat16 or Float16.
template <typename T>
const char* conv_forward(const ConvForward<T>&, const DeviceOffsets&, const Launch&);
template <typename T>
const char* conv_backward(const ConvBackward<T>&, const DeviceOffsets&, const Launch&);

}  // namespace recblr::cuda
