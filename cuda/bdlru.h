// Launches the behavior-dependent unit and its adjoint on a CUDA device.  Work is as on the CPU (cpp/core/bdlru.h), with
// device pointers; but ddecay gets the sums over all rows, (C).
#pragma once
#include "../cpp/core/bdlru.h"
#include "launch.h"

namespace recblr::cuda {

// Enqueue on the stream, and return null or CUDA's error as text.  T is float, double, Bfloat16 or Float16.
template <typename T>
const char* bdlru_forward(const BdlruForward<T>&, const DeviceOffsets&, const Launch&);
template <typename T>
const char* bdlru_backward(const BdlruBackward<T>&, const DeviceOffsets&, const Launch&);

}  // namespace recblr::cuda
