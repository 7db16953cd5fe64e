// Launches the causal convolution and its adjoint (cpp/core/causal_conv1d.h) on a GPU.
#pragma once
#include "core/causal_conv1d.h"
#include "launch.h"

namespace recblr::cuda {

// Returns null, or the error as text.  T is float, double, Bfloat16 or Float16. final, dinitial and dy may be absent;
// an absent dy means zeros.  Unlike on a CPU, dtaps (K, C) and dbias (C) get the sums over all rows.
template <typename T>
const char* conv_forward(const ConvForward<T>&, const DeviceOffsets&, const Launch&);
template <typename T>
const char* conv_backward(const ConvBackward<T>&, const DeviceOffsets&, const Launch&);

}  // namespace recblr::cuda
