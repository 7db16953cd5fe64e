// Launches the scan and its adjoint on a CUDA device.  Work is as on the CPU (cpp/core/scan.h), with device pointers.
#pragma once
#include "../cpp/core/scan.h"
#include "launch.h"

namespace recblr::cuda {

// Enqueue on the stream, and return null or CUDA's error as text.  T is an element type (elements.h).
template <typename T>
const char* scan_forward(const ScanForward<T>&, const DeviceOffsets&, const Launch&);
template <typename T>
const char* scan_backward(const ScanBackward<T>&, const DeviceOffsets&, const Launch&);

}  // namespace recblr::cuda
