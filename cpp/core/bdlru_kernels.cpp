// The fused behavior-dependent unit on a CPU.  Compiled once per instruction set, each time into the namespace
// RECBLR_ISA (see scan_kernels.cpp).
//
// The kernel is compute-bound: a vector of channels takes about seventy instructions.  So the outer loop is time and
// the inner loop is channels.  Neighbouring vectors then do not wait for each other, rows are read as one stream, and
// states stay in the L1 cache.
#include "core/bdlru.h"
#include "core/kernel.h"

namespace recblr::RECBLR_ISA {
namespace {

#include "core/flush_denormals-inl.h"
#include "core/recurrence-inl.h"
#include "core/conversions-inl.h"
#include "core/walk-inl.h"
#include "core/lanes-inl.h"
#include "core/elementary-inl.h"
#include "core/gates-inl.h"

// The number of a walk's first row, counted through all sequences.
std::int64_t first_row(const Extent& e, const Walk& walk) { return e.offsets ? walk.row : walk.sequence * e.length; }

// The inputs of a row, each from its first channel on.
template <typename T>
struct Rows {
  Stream<const T> x, gates, z;
  Stream<const Accumulate<T>> scale;
  Rows(const BdlruInputs<T>& in, const Walk& walk)
      : x(forward_stream(in.x, walk, 0)),
        gates(forward_stream(in.gates, walk, 0)),
        z(forward_stream(in.z, walk, 0)),
        scale(forward_stream(in.scale, walk, 0)) {}
};

template <typename A>
RECBLR_HD A start_state(const View<const A>& from, std::int64_t sequence, std::int64_t c) {
  return from.data ? from.data[sequence * from.sequence + c * from.channel] : A(0);
}

template <bool gated, bool scaled, typename T>
void pass(const BdlruForward<T>& w, const Task& task) {
  using A = Accumulate<T>;
  const Extent& e = w.in.extent;
  for (std::int64_t s = task.first; s < task.last; ++s) {
    const Walk walk(e, s);
    const Rows<T> in(w.in, walk);
    const Stream<T> y = forward_stream(w.y, walk, 0);
    A* state = w.final + s * e.channels;
    for (std::int64_t c = task.begin; c < task.end; ++c) state[c] = start_state(w.in.initial, s, c);
    const std::int64_t row = first_row(e, walk);
    for (std::int64_t t = 0; t < walk.length; ++t) {
      const T *x = in.x.step(t), *r = in.gates.step(t), *i = r + e.channels, *z = gated ? in.z.step(t) : nullptr;
      const A scale = scaled ? *in.scale.step(t) : A(1);
      T* out = y.step(t);
      A* keep = (row + t) % kStateRows == 0 ? w.states + (row + t) / kStateRows * e.channels : nullptr;
      over_channels<A>(task.begin, task.end, [&](std::int64_t c, auto load, auto store) __attribute__((always_inline)) {
        using V = Vector<A>;
        V decay = load(w.in.decay + c), h = load(state + c);
        if (keep) store(keep + c, h);
        if (scaled) decay *= scale;
        const Factors<V> f = factors(load(r + c), decay);
        h = step(f.alpha, h, f.beta * (sigmoid(load(i + c)) * load(x + c)));
        store(state + c, h);
        if (gated) {
          const V before = load(z + c);
          h *= before * sigmoid(before);
        }
        store(out + c, h);
      });
    }
  }
}

// The values that the backward pass needs for kStateRows steps and kStash channels, computed forward in time.  They lie
// in the L2 cache.  Rows are half a kilobyte long, because narrower rows are read at half the speed.
constexpr std::int64_t kStash = 128;
template <typename A>
struct Stash {
  alignas(64) A r[kStateRows][kStash], i[kStateRows][kStash], z[kStateRows][kStash], alpha[kStateRows][kStash],
      beta[kStateRows][kStash], beta_slope[kStateRows][kStash], h[kStateRows + 1][kStash];
};

template <bool gated, bool scaled, typename T>
void pass(const BdlruBackward<T>& w, const Task& task) {
  using A = Accumulate<T>;
  using V = Vector<A>;
  Stash<A> stash;
  const Extent& e = w.in.extent;
  double* ddecay = w.ddecay + task.index * e.channels;
  for (std::int64_t c = task.begin; c < task.end; ++c) ddecay[c] = 0;
  for (std::int64_t s = task.first; s < task.last; ++s) {
    const Walk walk(e, s);
    const Rows<T> in(w.in, walk);
    const auto dy = forward_stream(w.dy, walk, 0);
    const auto dx = forward_stream(w.dx, walk, 0), dgates = forward_stream(w.dgates, walk, 0),
               dz = forward_stream(w.dz, walk, 0);
    A* carried = w.dinitial + s * e.channels;  // dL/dh[t] through the steps after t
    for (std::int64_t c = task.begin; c < task.end; ++c) carried[c] = start_state(w.dfinal, s, c);
    const std::int64_t row = first_row(e, walk);
    for (std::int64_t stop = walk.length; stop > 0;) {
      const std::int64_t before = (row + stop - 1) / kStateRows * kStateRows - row, start = before > 0 ? before : 0;
      for (std::int64_t begin = task.begin; begin < task.end; begin += kStash) {
        const std::int64_t end = begin + kStash < task.end ? begin + kStash : task.end;
        const A* kept = w.states + (row + start) / kStateRows * e.channels;
        for (std::int64_t k = 0; k < kStash; ++k) {
          const std::int64_t c = begin + k;
          stash.h[0][k] = c >= end ? A(0) : start > 0 ? kept[c] : start_state(w.in.initial, s, c);
        }
        for (std::int64_t t = start; t < stop; ++t) {
          const T *x = in.x.step(t), *r = in.gates.step(t), *i = r + e.channels, *z = gated ? in.z.step(t) : nullptr;
          const A scale = scaled ? *in.scale.step(t) : A(1);
          const std::int64_t j = t - start;
          over_channels<A>(begin, end, [&](std::int64_t c, auto load, auto) __attribute__((always_inline)) {
            const std::int64_t k = c - begin;
            // These rows are read and written after the last step of the stretch.  Without the prefetch, they would
            // arrive one by one.
            __builtin_prefetch(dy.step(t) + c);
            __builtin_prefetch(dx.step(t) + c, 1);
            __builtin_prefetch(dgates.step(t) + c, 1);
            __builtin_prefetch(dgates.step(t) + e.channels + c, 1);
            if (gated) __builtin_prefetch(dz.step(t) + c, 1);
            V decay = load(w.in.decay + c);
            if (scaled) decay *= scale;
            const Factors<V> f = factors(load(r + c), decay);
            const V gate = sigmoid(load(i + c));
            store_lanes(&stash.r[j][k], f.r);
            store_lanes(&stash.i[j][k], gate);
            store_lanes(&stash.alpha[j][k], f.alpha);
            store_lanes(&stash.beta[j][k], f.beta);
            store_lanes(&stash.beta_slope[j][k], f.alpha * f.alpha * f.inverse_beta);
            store_lanes(&stash.h[j + 1][k], step(f.alpha, load_lanes(&stash.h[j][k]), f.beta * (gate * load(x + c))));
            if (gated) store_lanes(&stash.z[j][k], sigmoid(load(z + c)));
          });
        }
        alignas(64) A sums[kStash] = {};
        for (std::int64_t t = stop - 1; t >= start; --t) {
          const T *x = in.x.step(t), *z = gated ? in.z.step(t) : nullptr, *dout = dy.step(t);
          T *dr = dgates.step(t), *di = dr + e.channels;
          const A scale = scaled ? *in.scale.step(t) : A(1);
          const std::int64_t j = t - start;
          V dscale{};
          over_channels<A>(begin, end, [&](std::int64_t c, auto load, auto store) __attribute__((always_inline)) {
            const std::int64_t k = c - begin;
            V dh = load(dout + c);
            if (gated) {
              const V before = load(z + c), sigma = load_lanes(&stash.z[j][k]);
              store(dz.step(t) + c, dh * load_lanes(&stash.h[j + 1][k]) * silu_slope(before, sigma));
              dh *= before * sigma;
            }
            const V g = dh + load(carried + c);
            const V decay = load(w.in.decay + c), r = load_lanes(&stash.r[j][k]), i = load_lanes(&stash.i[j][k]);
            const V alpha = load_lanes(&stash.alpha[j][k]), input = load(x + c);
            const V u = scaled ? decay * scale * r : decay * r;
            const V du =
                u_adjoint(g, load_lanes(&stash.h[j][k]), i * input, alpha, load_lanes(&stash.beta_slope[j][k]), u);
            const V dproduct = g * load_lanes(&stash.beta[j][k]);  // dL/d(i x)
            store(carried + c, previous_adjoint(alpha, g));
            store(dx.step(t) + c, dproduct * i);
            store(di + c, dproduct * input * (i * (1 - i)));
            store(dr + c, du * u * (1 - r));
            const V du_decay = du * r;
            store_lanes(sums + k, load_lanes(sums + k) + (scaled ? du_decay * scale : du_decay));
            if (scaled) dscale += du_decay * decay;
          });
          if (scaled) {
            A sum = begin == task.begin ? A(0) : w.dscale[row + t];
            for (int k = 0; k < kLanes<A>; ++k) sum += dscale[k];
            w.dscale[row + t] = sum;
          }
        }
        for (std::int64_t c = begin; c < end; ++c) ddecay[c] += static_cast<double>(sums[c - begin]);
      }
      stop = start;
    }
  }
}

template <template <typename> class Work, typename T>
void run(const Work<T>& w, const Task& task) {
  [[maybe_unused]] const FlushDenormals<Accumulate<T>> guard;
  const bool gated = w.in.z.data, scaled = w.in.scale.data;
  if (gated && scaled) return pass<true, true>(w, task);
  if (gated) return pass<true, false>(w, task);
  if (scaled) return pass<false, true>(w, task);
  return pass<false, false>(w, task);
}

}  // namespace

RECBLR_REAL_TYPES(RECBLR_BDLRU_KERNELS)

}  // namespace recblr::RECBLR_ISA
