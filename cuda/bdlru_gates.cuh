// What the unit's kernels have in common: where a row's inputs lie, and the gates' sigmoids.
#pragma once
#include "elementary.cuh"
#include "memory.cuh"
#include "offsets.cuh"
#include "core/bdlru.h"

namespace recblr::cuda {

// Of z and of the input gate.  Coarse where elements have 16 bits themselves, which the special-function units would
// hold up otherwise.  The recurrence gate's error is multiplied by as many steps as a state lives: sigmoid, always.
template <typename T>
RECBLR_HD Accumulate<T> gate(Accumulate<T> before) {
  if constexpr (sizeof(T) == 2)
    return coarse_sigmoid(before);
  else
    return sigmoid(before);
}

// The number of a walk's first row, counted through all sequences.
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
