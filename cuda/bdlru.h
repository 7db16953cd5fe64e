// Launches the behavior-dependent unit and its adjoint (cpp/core/bdlru.h) on a GPU.
//
// Three regimes, by how much work there is beside time's:
//   1  kRows: bdlru_rows.cuh    a thread for some channels of a sequence, serial in time; backward, a block for them, a
//                               stretch of kStateRows rows at once
//   2  kWarps: bdlru_warps.cuh  a block for some channels of a sequence: its warps share out time
//   3  kSplit: bdlru_split.cuh  time is shared out among blocks, in three launches
//
// Shape, type and the device (its multiprocessors, the shared memory that a block can have) decide the order of every
// sum; where arrays lie decides only how they are read.
#pragma once
#include "core/bdlru.h"
#include "launch.h"

namespace recblr::cuda {

// Null, or what went wrong.  T is float, double, Bfloat16 or Float16.  An absent dy means zeros; ddecay gets the sums
// over all rows, (C).
template <typename T>
const char* bdlru_forward(const BdlruForward<T>&, const DeviceOffsets&, const Launch&);
template <typename T>
const char* bdlru_backward(const BdlruBackward<T>&, const DeviceOffsets&, const Launch&);

// The regime that a launch gets which does not ask for one.
int bdlru_regime(const Extent&, int multiprocessors);

}  // namespace recblr::cuda
