// The pass of events through the model.  Compiled once per instruction set, each time into the namespace RECBLR_ISA
// (see core/scan_kernels.cpp).
//
// Most of the time goes into products of weights and vectors.  With one event, each weight is used once, and the sums
// of many outputs stay in registers.  With several events, a panel of weights is read once for kRowsAtOnce of them.
#include "engine/step.h"

#include "core/kernel.h"

namespace recblr::RECBLR_ISA {
namespace {

#include "core/flush_denormals-inl.h"
#include "core/recurrence-inl.h"
#include "core/conversions-inl.h"
#include "core/lanes-inl.h"
#include "core/elementary-inl.h"
#include "core/gates-inl.h"

using engine::Event;
using engine::kEventBlock;
using engine::kKnots;
using engine::kKnotsPerDoubling;
using engine::kOutputPanel;
using engine::Layer;
using engine::Norm;
using engine::Pass;
using engine::Product;
using engine::Weights;
using engine::whole_panels;

constexpr int kVectors = kOutputPanel / kLanes<float>;  // of a panel
constexpr int kSums = kVectorBytes == 64 ? 16 : 8;      // that fit into the registers, beside the weights
constexpr int kRowsAtOnce = kSums / kVectors > 0 ? kSums / kVectors : 1;

// Rows of `rows` vectors in scratch memory.
struct Rows {
  float* data;
  std::int64_t stride;
  float* operator[](std::int64_t row) const { return data + row * stride; }
};

// The outputs of kQ panels for kR rows.
template <int kR, int kQ>
RECBLR_HD void panels(const Product& p, std::int64_t panel, Rows x, Rows y, std::int64_t row) {
  Floats sums[kR][kQ][kVectors];
  const float *weights = p.panels + panel * p.inputs * kOutputPanel, *bias = p.bias + panel * kOutputPanel;
#pragma GCC unroll 8
  for (int r = 0; r < kR; ++r)
#pragma GCC unroll 8
    for (int q = 0; q < kQ; ++q)
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) sums[r][q][v] = load_lanes(bias + q * kOutputPanel + v * kLanes<float>);
  const float* in[kR];
#pragma GCC unroll 8
  for (int r = 0; r < kR; ++r) in[r] = x[row + r];
  for (std::int64_t k = 0; k < p.inputs; ++k) {
#pragma GCC unroll 8
    for (int q = 0; q < kQ; ++q)
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) {
        const Floats w = load_lanes(weights + (q * p.inputs + k) * kOutputPanel + v * kLanes<float>);
#pragma GCC unroll 8
        for (int r = 0; r < kR; ++r) sums[r][q][v] = multiply_add(w, repeat(in[r][k]), sums[r][q][v]);
      }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kR; ++r)
#pragma GCC unroll 8
    for (int q = 0; q < kQ; ++q)
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v)
        store_lanes(y[row + r] + (panel + q) * kOutputPanel + v * kLanes<float>, sums[r][q][v]);
}

// All panels for kR rows, as many at once as there are registers.
template <int kR>
RECBLR_HD void product_of(const Product& p, Rows x, Rows y, std::int64_t row) {
  constexpr int kQ = kSums / (kR * kVectors) > 4 ? 4 : kSums / (kR * kVectors) > 0 ? kSums / (kR * kVectors) : 1;
  const std::int64_t count = whole_panels(p.outputs) / kOutputPanel;
  std::int64_t panel = 0;
  for (; panel + kQ <= count; panel += kQ) panels<kR, kQ>(p, panel, x, y, row);
  if constexpr (kQ > 2)
    for (; panel + 2 <= count; panel += 2) panels<kR, 2>(p, panel, x, y, row);
  for (; panel < count; ++panel) panels<kR, 1>(p, panel, x, y, row);
}

void product(const Product& p, Rows x, Rows y, std::int64_t rows) {
  const std::int64_t count = whole_panels(p.outputs) / kOutputPanel;
  std::int64_t row = 0;
  if (rows >= kRowsAtOnce && kRowsAtOnce > 1) {
    const std::int64_t whole = rows / kRowsAtOnce * kRowsAtOnce;
    // A panel stays in the L1 cache while all rows pass it.
    for (std::int64_t panel = 0; panel < count; ++panel)
      for (row = 0; row < whole; row += kRowsAtOnce) panels<kRowsAtOnce, 1>(p, panel, x, y, row);
    row = whole;
  }
  if constexpr (kRowsAtOnce > 4)
    for (; row + 4 <= rows; row += 4) product_of<4>(p, x, y, row);
  if constexpr (kRowsAtOnce > 2)
    for (; row + 2 <= rows; row += 2) product_of<2>(p, x, y, row);
  for (; row < rows; ++row) product_of<1>(p, x, y, row);
}

RECBLR_HD float total(Floats v) {
  float x[kLanes<float>];
  store_lanes(x, v);
#pragma GCC unroll 4
  for (int width = kLanes<float> / 2; width > 0; width /= 2)
#pragma GCC unroll 8
    for (int k = 0; k < width; ++k) x[k] += x[k + width];
  return x[0];
}

// to = norm(row).  The sums run over whole vectors, then over the rest.
RECBLR_HD void normalise(const Norm& norm, const float* row, std::int64_t width, float* to) {
  constexpr float kEpsilon = 1e-12f;  // recblr.nn.common.LAYER_NORM_EPS
  const std::int64_t whole = width / kLanes<float> * kLanes<float>;
  Floats sums{};
  for (std::int64_t c = 0; c < whole; c += kLanes<float>) sums += load_lanes(row + c);
  float sum = total(sums);
  for (std::int64_t c = whole; c < width; ++c) sum += row[c];
  const float mean = sum / static_cast<float>(width);
  Floats squares{};
  for (std::int64_t c = 0; c < whole; c += kLanes<float>) {
    const Floats d = load_lanes(row + c) - mean;
    squares = multiply_add(d, d, squares);
  }
  float square = total(squares);
  for (std::int64_t c = whole; c < width; ++c) square += (row[c] - mean) * (row[c] - mean);
  const float inverse = 1.0f / __builtin_sqrtf(square / static_cast<float>(width) + kEpsilon);
  over_channels<float>(0, width, [&](std::int64_t c, auto load, auto store) __attribute__((always_inline)) {
    store(to + c, multiply_add((load(row + c) - mean) * inverse, load(norm.scale + c), load(norm.shift + c)));
  });
}

// The place of a gap between two knots.
struct Place {
  std::int64_t left;
  float share;  // of the way to the next knot
  explicit Place(float gap) {
    const float at = kKnotsPerDoubling * __builtin_log2f(1.0f + gap), last = kKnots - 1;
    const float place = at < last ? at : last;
    left = static_cast<std::int64_t>(place);
    left = left < kKnots - 2 ? left : kKnots - 2;
    share = place - static_cast<float>(left);
  }
};

// f(c, value) for a learned function of a gap.
RECBLR_HD float value_of(const float* knots, const Place& at) {
  return multiply_add(knots[at.left + 1] - knots[at.left], at.share, knots[at.left]);
}
RECBLR_HD void add_value(const float* knots, const Place& at, std::int64_t width, float* to) {
  const float *left = knots + at.left * width, *right = left + width;
  over_channels<float>(0, width, [&](std::int64_t c, auto load, auto store) __attribute__((always_inline)) {
    const Floats start = load(left + c);
    store(to + c, load(to + c) + multiply_add(load(right + c) - start, all(at.share), start));
  });
}

void apply_silu(Rows x, std::int64_t width, std::int64_t rows) {
  for (std::int64_t r = 0; r < rows; ++r) {
    float* row = x[r];
    over_channels<float>(0, width, [&](std::int64_t c, auto load, auto store) __attribute__((always_inline)) {
      const Floats v = load(row + c);
      store(row + c, v * sigmoid(v));
    });
  }
}

// y = SiLU(convolution), from x and the inputs before it, and these inputs moved on by one.
template <typename S>
RECBLR_HD void convolve(const Weights& w, const Layer& layer, const float* x, S* inputs, float* y) {
  const std::int64_t past = w.taps - 1, width = w.inner;
  over_channels<float>(0, width, [&](std::int64_t c, auto load, auto store) __attribute__((always_inline)) {
    const Floats newest = load(x + c);
    Floats sum{};
    for (std::int64_t k = 0; k < past; ++k) {
      sum = multiply_add(load(layer.taps + k * width + c), load(inputs + k * width + c), sum);
      store(inputs + k * width + c, k + 1 < past ? load(inputs + (k + 1) * width + c) : newest);
    }
    sum = multiply_add(load(layer.taps + past * width + c), newest, sum) + load(layer.conv_bias + c);
    store(y + c, sum * sigmoid(sum));
  });
}

// One step of the recurrence, and its output behind the gate z.
template <typename S>
RECBLR_HD void recur(const Weights& w, const Layer& layer, float scale, const float* x, const float* gates,
                     const float* z, S* hidden, float* y) {
  const bool released = w.beta_epsilon > 0;
  over_channels<float>(0, w.inner, [&](std::int64_t c, auto load, auto store) __attribute__((always_inline)) {
    Factors<Floats> f = factors(load(gates + c), load(layer.decay + c) * scale);
    if (released) f.beta = roots(multiply_add(f.beta, f.beta, all(w.beta_epsilon))).root;
    const Floats input = f.beta * (sigmoid(load(gates + w.inner + c)) * load(x + c));
    const Floats h = step(f.alpha, load(hidden + c), input), before = load(z + c);
    store(hidden + c, h);
    store(y + c, h * (before * sigmoid(before)));
  });
}

// out += the history average of u, + u.
RECBLR_HD void add_inputs(const Weights& w, const Layer& layer, const float* u, const float* average, float* out) {
  over_channels<float>(0, w.width, [&](std::int64_t c, auto load, auto store) __attribute__((always_inline)) {
    const Floats now = load(u + c);
    Floats sum = load(out + c);
    if (layer.keep) sum = multiply_add(load(layer.weight + c), load(average + c), sum);
    store(out + c, sum + now);
  });
}
// Takes u into the history average, and copies the average: a later event of a block may change the state before the
// average is added.
template <typename S>
RECBLR_HD void renew_average(const Weights& w, const Layer& layer, const float* u, S* average, float* now) {
  over_channels<float>(0, w.width, [&](std::int64_t c, auto load, auto store) __attribute__((always_inline)) {
    const Floats m = step(load(layer.keep + c), load(average + c), load(layer.take + c) * load(u + c));
    store(average + c, m);
    store(now + c, m);
  });
}

RECBLR_HD void add(const float* x, std::int64_t width, float* to) {
  over_channels<float>(0, width, [&](std::int64_t c, auto load, auto store) __attribute__((always_inline)) {
    store(to + c, load(to + c) + load(x + c));
  });
}

RECBLR_HD void copy(const float* from, std::int64_t width, float* to) {
  __builtin_memcpy(to, from, static_cast<std::size_t>(width) * sizeof(float));
}

// The scratch vectors of a block of events.
struct Scratch {
  Rows u, xz, c, gates, y, out, wide, mean;
  float* scale;
  Scratch(const Weights& w, float* at) {
    const auto rows = [&](std::int64_t width) {
      const Rows r{at, whole_panels(width)};
      at += kEventBlock * r.stride;
      return r;
    };
    u = rows(w.width), xz = rows(2 * w.inner), c = rows(w.inner), gates = rows(2 * w.inner), y = rows(w.inner);
    out = rows(w.width), mean = rows(w.width);
    scale = rows(1).data;
    // The widest last: the feed-forward network, or the answer with its input before it.
    wide = Rows{at, 0};
  }
};

// h + W2 SiLU(W1 [h, f(gap)] + b1) + b2 (recblr.nn.time.Answer), in place.
RECBLR_HD void answer(const Weights& w, const float* gaps, Rows hidden, Rows wide, Rows out, std::int64_t rows) {
  const Rows both{wide.data, whole_panels(2 * w.width)};
  const Rows inner{both.data + kEventBlock * both.stride, whole_panels(w.time.answer_widen.outputs)};
  for (std::int64_t r = 0; r < rows; ++r) {
    copy(hidden[r], w.width, both[r]);
    float* value = both[r] + w.width;
    for (std::int64_t c = 0; c < w.width; ++c) value[c] = 0;
    add_value(w.time.answer_gap, Place(gaps[r]), w.width, value);
  }
  product(w.time.answer_widen, both, inner, rows);
  apply_silu(inner, w.time.answer_widen.outputs, rows);
  product(w.time.answer_narrow, inner, out, rows);
  for (std::int64_t r = 0; r < rows; ++r) add(out[r], w.width, hidden[r]);
}

template <typename S>
void block(const Weights& w, const Event<S>* events, std::int64_t rows, float* memory) {
  Scratch s(w, memory);
  const std::int64_t size = w.layer_state();
  for (std::int64_t r = 0; r < rows; ++r) {
    const Event<S>& e = events[r];
    float* x = s.out[r];
    copy(e.item, w.width, x);
    s.scale[r] = 1;
    if (w.time.past) {
      const Place past(e.past);
      add_value(w.time.past, past, w.width, x);
      if (w.time.next) add_value(w.time.next, Place(e.next), w.width, x);
      s.scale[r] = exponential(all(value_of(w.time.fading, past) - w.time.fading[0]))[0];
    }
    normalise(w.start, x, w.width, s.u[r]);
  }
  for (std::int64_t l = 0; l < w.layers; ++l) {
    const Layer& layer = w.layer[l];
    const auto state = [&](std::int64_t r) { return events[r].state + l * size; };
    for (std::int64_t r = 0; r < rows; ++r) {
      const char* lines = reinterpret_cast<const char*>(state(r));
      for (std::int64_t at = 0; at < size * static_cast<std::int64_t>(sizeof(S)); at += 64)
        __builtin_prefetch(lines + at, 1);
    }
    product(layer.input, s.u, s.xz, rows);
    for (std::int64_t r = 0; r < rows; ++r) convolve(w, layer, s.xz[r], state(r), s.c[r]);
    product(layer.gates, s.c, s.gates, rows);
    for (std::int64_t r = 0; r < rows; ++r) {
      S *hidden = state(r) + (w.taps - 1) * w.inner, *average = hidden + w.inner;
      recur(w, layer, s.scale[r], s.c[r], s.gates[r], s.xz[r] + w.inner, hidden, s.y[r]);
      if (layer.keep) renew_average(w, layer, s.u[r], average, s.mean[r]);
    }
    // Nobody asks for the output of the last layer after an event that a later event of its history follows.
    std::int64_t asked = rows;
    if (l + 1 == w.layers) {
      asked = 0;
      for (std::int64_t r = 0; r < rows; ++r) {
        if (!events[r].hidden) continue;
        if (asked < r) {
          copy(s.y[r], w.inner, s.y[asked]);
          copy(s.u[r], w.width, s.u[asked]);
          if (layer.keep) copy(s.mean[r], w.width, s.mean[asked]);
        }
        s.scale[asked++] = events[r].next;
      }
      if (!asked) return;
    }
    product(layer.output, s.y, s.out, asked);
    const Rows inner{s.wide.data, whole_panels(layer.widen.outputs)};
    for (std::int64_t r = 0; r < asked; ++r) {
      add_inputs(w, layer, s.u[r], s.mean[r], s.out[r]);
      normalise(layer.middle, s.out[r], w.width, s.u[r]);
    }
    product(layer.widen, s.u, inner, asked);
    apply_silu(inner, layer.widen.outputs, asked);
    product(layer.narrow, inner, s.out, asked);
    for (std::int64_t r = 0; r < asked; ++r) {
      add(s.u[r], w.width, s.out[r]);
      normalise(layer.end, s.out[r], w.width, s.u[r]);
    }
    if (l + 1 < w.layers) continue;
    if (w.time.answer_gap) answer(w, s.scale, s.u, s.wide, s.out, asked);
    std::int64_t next = 0;
    for (std::int64_t r = 0; r < rows; ++r)
      if (events[r].hidden) copy(s.u[next++], w.width, events[r].hidden);
  }
}

template <typename S>
void run(const Pass<S>& w, const Units& share) {
  [[maybe_unused]] const FlushDenormals<float> guard;
  for (std::int64_t at = share.begin; at < share.end; at += kEventBlock)
    block(*w.weights, w.events + at, at + kEventBlock < share.end ? kEventBlock : share.end - at, w.scratch);
}

}  // namespace

RECBLR_KERNEL(engine::Pass<float>)
RECBLR_KERNEL(engine::Pass<Bfloat16>)

}  // namespace recblr::RECBLR_ISA
