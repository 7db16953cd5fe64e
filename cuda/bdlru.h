// Launches the behavior-dependent unit and its adjoint (cpp/core/bdlru.h) on a GPU.
//
// Three regimes.  With fewer sequences and channels, more of the parallelism comes from time:
//   1  kRows: bdlru_rows.cuh    a thread for some channels of a sequence, serial in time; backward, a block for them, a
//                               stretch of kStateRows rows at once
//   2  kWarps: bdlru_warps.cuh  a block for some channels of a sequence: its warps share time
//   3  kSplit: bdlru_split.cuh  blocks share time, in three launches
//
// The order of every sum depends on the shape, the type and the device (its multiprocessors, and the shared memory that
// a block can have).  The addresses of arrays decide only how the arrays are read.
#pragma once
#include "core/bdlru.h"
#include "launch.h"

namespace recblr::cuda {

// Returns null, or the error as text.  T is float, double, Bfloat16 or Float16.  An absent dy means zeros. ddecay (C)
// gets the sums over all rows.
template <typename T>
const char* bdlru_forward(const BdlruForward<T>&, const DeviceOffsets&, const Launch&);
template <typename T>
const char* bdlru_backward(const BdlruBackward<T>&, const DeviceOffsets&, const Launch&);

// The regime of a launch with Launch::regime 0.
int bdlru_regime(const Extent&, int multiprocessors);

}  // namespace recblr::cuda
