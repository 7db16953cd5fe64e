// The causal convolution on a CPU.  Compiled once per instruction set, each time into the namespace RECBLR_ISA (see
// scan_kernels.cpp).  The outer loop is time and the inner loop is channels, so that rows are read as one stream.
#include "core/causal_conv1d.h"
#include "core/kernel.h"

namespace recblr::RECBLR_ISA {
namespace {

#include "core/flush_denormals-inl.h"
#include "core/recurrence-inl.h"
#include "core/conversions-inl.h"
#include "core/walk-inl.h"
#include "core/lanes-inl.h"
#include "core/elementary-inl.h"

// The inputs of one sequence, including those before its first step.
template <typename T>
struct Inputs {
  const ConvInputs<T>& in;
  Stream<const T> x;
  std::int64_t sequence, past;

  Inputs(const ConvInputs<T>& in, const Walk& walk)
      : in(in), x(forward_stream(in.x, walk, 0)), sequence(walk.sequence), past(in.width - 1) {}

  // The input of channel c at step `t`, which may lie before the first step.
  Accumulate<T> at(std::int64_t t, std::int64_t c) const {
    if (t >= 0) return widen(x.step(t)[c]);
    const auto& initial = in.initial;
    return initial.data ? initial.data[sequence * initial.sequence + (t + past) * initial.time + c * initial.channel]
                        : Accumulate<T>(0);
  }
};

// The inputs of a vector of channels from c on at step t.  From the first step on, `load` reads them from the sequence.
template <typename T, typename Load>
RECBLR_HD Vector<Accumulate<T>> input(const Inputs<T>& inputs, std::int64_t t, std::int64_t c, std::int64_t end,
                                      Load load) {
  if (t >= 0) return load(inputs.x.step(t) + c);
  Vector<Accumulate<T>> v{};
  for (int k = 0; k < kLanes<Accumulate<T>> && c + k < end; ++k) v[k] = inputs.at(t, c + k);
  return v;
}

// The convolution at step t before SiLU.  A common width is a compile-time constant.
template <typename T, typename Load>
RECBLR_HD Vector<Accumulate<T>> convolve(const Inputs<T>& inputs, std::int64_t width, std::int64_t t, std::int64_t c,
                                         std::int64_t end, Load load) {
  const ConvInputs<T>& in = inputs.in;
  Vector<Accumulate<T>> sum{};
  for (std::int64_t k = 0; k < width; ++k)
    sum =
        multiply_add(load(in.taps + k * in.extent.channels + c), input(inputs, t - inputs.past + k, c, end, load), sum);
  return in.bias ? sum + load(in.bias + c) : sum;
}

template <int kWidth, typename T>
void pass(const ConvForward<T>& w, const Task& task) {
  using A = Accumulate<T>;
  const std::int64_t channels = w.in.extent.channels, width = kWidth ? kWidth : w.in.width, past = width - 1;
  for (std::int64_t s = task.first; s < task.last; ++s) {
    const Walk walk(w.in.extent, s);
    const Inputs<T> inputs(w.in, walk);
    const Stream<T> y = forward_stream(w.y, walk, 0);
    for (std::int64_t t = task.from, stop = task.to < walk.length ? task.to : walk.length; t < stop; ++t) {
      T* out = y.step(t);
      over_channels<A>(task.begin, task.end, [&](std::int64_t c, auto load, auto store) __attribute__((always_inline)) {
        const Vector<A> v = convolve(inputs, width, t, c, task.end, load);
        store(out + c, w.in.silu ? v * sigmoid(v) : v);
      });
    }
    for (std::int64_t lag = 0; lag < past && task.to >= walk.length; ++lag)
      for (std::int64_t c = task.begin; c < task.end; ++c)
        w.final[(s * past + lag) * channels + c] = inputs.at(walk.length - past + lag, c);
  }
}

// The adjoints before SiLU of the last `width` steps, and sums over some rows.  These are then added to
// double-precision sums.
template <typename A>
struct Strip {
  static constexpr std::int64_t kMost = 128;
  alignas(64) A adjoint[kMaxWidth * 16], sums[2 * kMaxWidth * 16];
  // How many channels fit, a multiple of 16.
  static std::int64_t channels(std::int64_t width) {
    const std::int64_t fit = kMaxWidth / width * 16;
    return fit < kMost ? fit : kMost;
  }
};

// Time runs forward here too.  The adjoint of an input is complete once the `past` steps after it are known.
template <int kWidth, typename T>
void pass(const ConvBackward<T>& w, const Task& task) {
  using A = Accumulate<T>;
  using V = Vector<A>;
  constexpr std::int64_t kRowsInSum = 32;
  const std::int64_t channels = w.in.extent.channels, width = kWidth ? kWidth : w.in.width, past = width - 1;
  Strip<A> strip;
  const std::int64_t kStrip = Strip<A>::channels(width);
  double *dtaps = w.dtaps + task.index * width * channels, *dbias = w.dbias + task.index * channels;
  for (std::int64_t begin = task.begin; begin < task.end; begin += kStrip) {
    const std::int64_t end = begin + kStrip < task.end ? begin + kStrip : task.end;
    for (std::int64_t c = begin; c < end; ++c) {
      dbias[c] = 0;
      for (std::int64_t k = 0; k < width; ++k) dtaps[k * channels + c] = 0;
    }
    const auto adjoint = [&](std::int64_t t) { return strip.adjoint + t % width * kStrip; };
    for (A& sum : strip.sums) sum = 0;
    const auto flush = [&] {
      for (std::int64_t c = begin; c < end; ++c) {
        dbias[c] += static_cast<double>(strip.sums[past * kStrip + kStrip + c - begin]);
        for (std::int64_t k = 0; k < width; ++k)
          dtaps[k * channels + c] += static_cast<double>(strip.sums[k * kStrip + c - begin]);
      }
      for (A& sum : strip.sums) sum = 0;
    };
    std::int64_t in_sum = 0;
    for (std::int64_t s = task.first; s < task.last; ++s) {
      const Walk walk(w.in.extent, s);
      const Inputs<T> inputs(w.in, walk);
      const auto dy = forward_stream(w.dy, walk, 0);
      const auto dx = forward_stream(w.dx, walk, 0);
      const auto final_adjoint = [&](std::int64_t lag, std::int64_t c) {
        return w.dfinal.data ? w.dfinal.data[s * w.dfinal.sequence + lag * w.dfinal.time + c * w.dfinal.channel] : A(0);
      };
      const std::int64_t to = task.to < walk.length ? task.to : walk.length;
      for (std::int64_t t = task.from; t < to + past; ++t) {
        if (t < walk.length) {
          over_channels<A>(begin, end, [&](std::int64_t c, auto load, auto) __attribute__((always_inline)) {
            V d = load(dy.step(t) + c);
            if (w.in.silu) {
              const V v = convolve(inputs, width, t, c, end, load);
              d *= silu_slope(v, sigmoid(v));
            }
            store_lanes(adjoint(t) + c - begin, d);
            if (t >= to) return;  // belongs to the next task
            A* sums = strip.sums + c - begin;
            for (std::int64_t k = 0; k < width; ++k, sums += kStrip)
              store_lanes(sums, multiply_add(d, input(inputs, t - past + k, c, end, load), load_lanes(sums)));
            store_lanes(sums, load_lanes(sums) + d);
          });
        } else {
          for (std::int64_t k = 0; k < kStrip; ++k) adjoint(t)[k] = 0;
        }
        const std::int64_t row = t - past;
        if (row >= task.from) {
          over_channels<A>(begin, end, [&](std::int64_t c, auto load, auto store) __attribute__((always_inline)) {
            V out{};
            for (std::int64_t k = 0; k < width; ++k)
              out = multiply_add(load(w.in.taps + k * channels + c), load_lanes(adjoint(t - k) + c - begin), out);
            if (w.dfinal.data && row >= walk.length - past)
              for (int k = 0; k < kLanes<A> && c + k < end; ++k)
                out[k] += final_adjoint(row - (walk.length - past), c + k);
            store(dx.step(row) + c, out);
          });
        }
        // The steps [0, lag] use the initial input number `lag`.  In a short sequence, this input is also part of the
        // final state.
        if (task.from == 0 && t == past - 1)
          for (std::int64_t lag = 0; lag < past; ++lag)
            for (std::int64_t c = begin; c < end; ++c) {
              A sum = lag >= walk.length ? final_adjoint(lag - walk.length, c) : A(0);
              for (std::int64_t k = 0; k <= lag; ++k)
                sum = multiply_add(w.in.taps[k * channels + c], adjoint(lag - k)[c - begin], sum);
              w.dinitial[(s * past + lag) * channels + c] = sum;
            }
        if (t < to && ++in_sum == kRowsInSum) flush(), in_sum = 0;
      }
    }
    flush();
  }
}

template <template <typename> class Work, typename T>
void run(const Work<T>& w, const Task& task) {
  [[maybe_unused]] const FlushDenormals<Accumulate<T>> guard;
  w.in.width == 4 ? pass<4>(w, task) : pass<0>(w, task);
}

}  // namespace

RECBLR_REAL_TYPES(RECBLR_CONV_KERNELS)

}  // namespace recblr::RECBLR_ISA
