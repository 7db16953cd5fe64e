// Launches the scan and its adjoint (cpp/core/scan.h) on a GPU.
//
// Three regimes.  With fewer sequences and channels, more of the parallelism comes from time:
//   1  kRows: scan_rows.cuh    a thread for some channels of a sequence, serial in time
//   2  kWarps: scan_warps.cuh  a block for some channels of a sequence: its warps share time
//   3  kSplit: scan_split.cuh  blocks share time, in three launches
// Each adds up in its own order, which depends only on shape and type.
#pragma once
#include "launch.h"
#include "core/scan.h"

namespace recblr::cuda {

// The regime of this launch: to.regime if that is not 0, else a choice by shape and device (regimes.h).  Complex
// numbers always use kRows.
template <typename T>
int chosen_regime(const ScanForward<T>&, const DeviceOffsets&, const Launch& to);
template <typename T>
int chosen_regime(const ScanBackward<T>&, const DeviceOffsets&, const Launch& to);

// Returns null, or the error as text.  T is an element type (elements.h). final and dinitial may be absent.
template <typename T>
const char* scan_forward(const ScanForward<T>&, const DeviceOffsets&, const Launch&);
template <typename T>
const char* scan_backward(const ScanBackward<T>&, const DeviceOffsets&, const Launch&);

}  // namespace recblr::cuda
