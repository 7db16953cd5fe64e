// The scan and its adjoint as kernels see them: what a pack of channels reads at each step of one sequence or segment,
// and what it computes from that.  Steps are counted in the order in which states are carried.  The adjoint runs in the
// opposite order to the scan.
//
// A cell has
//   Work, Element, State, kChannels    the struct of the arrays, types of elements and states, channels in a pack
//   kArrays                            the arrays that a step reads; a summary needs only the first two
//   fetch(t, array)                    the address of the pack of an array at step t; null if it is not read there
//   summarise(in, product, from_zero)  adds a step to the summary of its stretch
//   begin(state), run(t, in), end(state)   scans steps from a state and writes the outputs of the scan
// and names the states of its work in which a walk starts and ends.
#pragma once
#include "memory.cuh"
#include "offsets.cuh"

namespace recblr::cuda {

template <typename T, int N>
class ScanCell {
 public:
  using Work = ScanForward<T>;
  using Element = T;
  using State = Accumulate<T>;
  static constexpr int kChannels = N, kArrays = 2;
  static constexpr bool kAgainst = false;
  using Inputs = Pack<T, N>[kArrays];

  RECBLR_HD ScanCell(const Work& w, const Walk& walk, std::int64_t c)
      : a_(forward_stream(w.a, walk, c)), b_(forward_stream(w.b, walk, c)), h_(forward_stream(w.h, walk, c)) {}

  RECBLR_HD const T* fetch(std::int64_t t, int array) const { return array == 0 ? a_.step(t) : b_.step(t); }
  template <int K>
  RECBLR_HD static void summarise(const Pack<T, N> (&in)[K], State* product, State* from_zero) {
    State a[N], b[N];
    widen(in[0], a), widen(in[1], b);
#pragma unroll
    for (int k = 0; k < N; ++k) cuda::summarise(a[k], b[k], product[k], from_zero[k]);
  }

  RECBLR_HD void begin(const State* state) {
#pragma unroll
    for (int k = 0; k < N; ++k) state_[k] = state[k];
  }
  RECBLR_HD void run(std::int64_t t, const Inputs& in) {
    State a[N], b[N];
    widen(in[0], a), widen(in[1], b);
#pragma unroll
    for (int k = 0; k < N; ++k) state_[k] = step(a[k], state_[k], b[k]);
    store_narrow<N>(h_.step(t), state_);
  }
  RECBLR_HD void end(State* state) const {
#pragma unroll
    for (int k = 0; k < N; ++k) state[k] = state_[k];
  }

  // The states in which walks start, indexed by sequence or segment.
  template <typename W>
  static RECBLR_EVERYWHERE auto& starts(W& w) {
    return w.initial;
  }
  // Whether a walk holds the last step of its sequence, and the place for the state after it, indexed by sequence.
  static RECBLR_HD bool ends(const Walk& walk) { return walk.ends; }
  static RECBLR_HD const View<State>& results(const Work& w) { return w.final; }
  static RECBLR_HD void zero_uncovered(const Work& w) { cuda::zero_uncovered(w.extent, w.h); }

 private:
  Stream<const T> a_, b_;
  Stream<T> h_;
  State state_[N];
};

template <typename T, int N>
class AdjointCell {
 public:
  using Work = ScanBackward<T>;
  using Element = T;
  using State = Accumulate<T>;
  static constexpr int kChannels = N, kArrays = 3;
  static constexpr bool kAgainst = true;
  using Inputs = Pack<T, N>[kArrays];

  RECBLR_HD AdjointCell(const Work& w, const Walk& walk, std::int64_t c)
      : w_(w),
        dh_(backward_stream(w.dh, walk, c)),
        a_(backward_stream(w.a, walk, c)),
        h_(backward_stream(w.h, walk, c)),
        da_(backward_stream(w.da, walk, c)),
        db_(backward_stream(w.db, walk, c)),
        first_(walk.begins ? walk.length - 1 : -1),
        sequence_(walk.sequence),
        c_(c) {}

  RECBLR_HD const T* fetch(std::int64_t t, int array) const {
    if (array < 2) return array == 0 ? dh_.step(t) : a_.step(t);
    return t == first_ ? nullptr : h_.step(t + 1);
  }
  template <int K>
  RECBLR_HD static void summarise(const Pack<T, N> (&in)[K], State* product, State* from_zero) {
    State dh[N], a[N];
    widen(in[0], dh), widen(in[1], a);
#pragma unroll
    for (int k = 0; k < N; ++k) summarise_adjoint(a[k], dh[k], product[k], from_zero[k]);
  }

  RECBLR_HD void begin(const State* state) {
#pragma unroll
    for (int k = 0; k < N; ++k) g_[k] = state[k], next_a_[k] = Constant<State>::one();
  }
  RECBLR_HD void run(std::int64_t t, const Inputs& in) {
    State dh[N], previous[N], da[N];
    widen(in[0], dh), widen(in[2], previous);
    // Without an initial state, the derivative of the first factor is zero for any g.
    const bool constant = t == first_ && !w_.initial.data;
    if (t == first_) load_state(w_.initial, sequence_, c_, N, previous);
#pragma unroll
    for (int k = 0; k < N; ++k) {
      g_[k] = step_adjoint(next_a_[k], g_[k], dh[k]);
      da[k] = constant ? Constant<State>::zero() : factor_adjoint(g_[k], previous[k]);
    }
    widen(in[1], next_a_);
    store_narrow<N>(db_.step(t), g_);
    store_narrow<N>(da_.step(t), da);
  }
  RECBLR_HD void end(State* state) const {
#pragma unroll
    for (int k = 0; k < N; ++k) state[k] = previous_adjoint(next_a_[k], g_[k]);
  }

  template <typename W>
  static RECBLR_EVERYWHERE auto& starts(W& w) {
    return w.dfinal;
  }
  static RECBLR_HD bool ends(const Walk& walk) { return walk.begins; }
  static RECBLR_HD const View<State>& results(const Work& w) { return w.dinitial; }
  static RECBLR_HD void zero_uncovered(const Work& w) {
    cuda::zero_uncovered(w.extent, w.da), cuda::zero_uncovered(w.extent, w.db);
  }

 private:
  const Work& w_;
  Stream<const T> dh_, a_, h_;
  Stream<T> da_, db_;
  std::int64_t first_;  // the first step of the sequence, which follows the initial state
  std::int64_t sequence_, c_;
  State g_[N], next_a_[N];
};

}  // namespace recblr::cuda
