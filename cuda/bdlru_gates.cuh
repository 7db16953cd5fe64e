// Shared by the kernels of the unit: where the inputs of a row lie, and the sigmoids of the gates.
#pragma once
#include "elementary.cuh"
#include "memory.cuh"
#include "offsets.cuh"
#include "core/bdlru.h"

namespace recblr::cuda {

// The sigmoid for z and for the input gate.  It is coarse if elements have 16 bits, because otherwise the
// special-function units would be the bottleneck.  The recurrence gate always uses sigmoid: its error is multiplied by
// the number of steps that a state lives.
template <typename T>
RECBLR_HD Accumulate<T> gate(Accumulate<T> before) {
  if constexpr (sizeof(T) == 2)
    return coarse_sigmoid(before);
  else
    return sigmoid(before);
}

// The number of the first row of a walk, counted through all sequences.
RECBLR_HD std::int64_t first_row(const Extent& e, const Walk& walk) {
  return (e.offsets ? 0 : walk.plane * e.length) + walk.row;
}

// The inputs of some channels, from channel c on, along a walk.
template <typename T>
struct Rows {
  using A = Accumulate<T>;
  Stream<const T> x, r, i, z;
  Stream<const A> scale;
  RECBLR_HD Rows(const BdlruInputs<T>& in, const Walk& walk, std::int64_t c)
      : x(forward_stream(in.x, walk, c)),
        r(forward_stream(in.gates, walk, c)),
        i(forward_stream(in.gates, walk, in.extent.channels + c)),
        z(forward_stream(in.z, walk, c)),
        scale(forward_stream(in.scale, walk, 0)) {}
  RECBLR_HD A scale_at(std::int64_t t) const { return scale.at ? *scale.step(t) : A(1); }
};

template <int N, typename A>
RECBLR_HD void load_decay(const A* decay, std::int64_t c, A* to) {
#pragma unroll
  for (int k = 0; k < N; ++k) to[k] = decay[c + k];
}

}  // namespace recblr::cuda
