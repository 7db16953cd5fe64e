#include "engine/step.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>

#include "engine/problem.h"

namespace recblr::engine {
namespace {

using Sizes = std::vector<std::int64_t>;

std::string words(const Sizes& sizes) {
  std::string text;
  for (const std::int64_t size : sizes) text += (text.empty() ? "" : ", ") + std::to_string(size);
  return "(" + text + ")";
}

// Hands out memory from one block.  Without a block, it counts.
class Arena {
 public:
  explicit Arena(char* at) : at_(at) {}
  float* take(std::int64_t count) {
    float* const here = at_ ? reinterpret_cast<float*>(at_ + used_) : nullptr;
    used_ += (static_cast<std::size_t>(count) * sizeof(float) + 63) / 64 * 64;
    return here;
  }
  std::size_t used() const { return used_; }

 private:
  char* at_;
  std::size_t used_ = 0;
};

// Reads arrays by name, checks their shapes and lays them out.  With an arena that counts, it writes nothing.
class Packer {
 public:
  Packer(const std::map<std::string, Array>& arrays, Arena& arena) : arrays_(arrays), arena_(arena) {}

  const float* vector(const std::string& name, const Sizes& shape, const std::function<float(float)>& f = nullptr) {
    const float* from = find(name, shape);
    std::int64_t count = 1;
    for (const std::int64_t size : shape) count *= size;
    float* const to = arena_.take(count);
    if (to)
      for (std::int64_t i = 0; i < count; ++i) to[i] = f ? f(from[i]) : from[i];
    return to;
  }

  Norm norm(const std::string& name, std::int64_t width) {
    return {vector(name + ".weight", {width}), vector(name + ".bias", {width})};
  }

  // taps (K, H) from the weights (H, K) of the convolution.
  const float* taps(const std::string& name, std::int64_t width, std::int64_t count) {
    const float* from = find(name, {width, count});
    float* const to = arena_.take(width * count);
    for (std::int64_t k = 0; to && k < count; ++k)
      for (std::int64_t c = 0; c < width; ++c) to[k * width + c] = from[c * count + k];
    return to;
  }

  Product product(const std::string& name, std::int64_t inputs, std::int64_t outputs, bool bias = true) {
    const float* from = find(name + ".weight", {outputs, inputs});
    const float* shift = bias ? find(name + ".bias", {outputs}) : nullptr;
    const std::int64_t padded = whole_panels(outputs);
    float *const to = arena_.take(padded * inputs), *const shifts = arena_.take(padded);
    if (to) {
      for (std::int64_t o = 0; o < padded; ++o) {
        float* const panel = to + o / kOutputPanel * kOutputPanel * inputs + o % kOutputPanel;
        for (std::int64_t k = 0; k < inputs; ++k) panel[k * kOutputPanel] = o < outputs ? from[o * inputs + k] : 0.0f;
        shifts[o] = shift && o < outputs ? shift[o] : 0.0f;
      }
    }
    return {inputs, outputs, to, shifts};
  }

 private:
  const float* find(const std::string& name, const Sizes& shape) {
    const auto found = arrays_.find(name);
    const std::string remedy = "export the model again with recblr export";
    if (found == arrays_.end()) throw Problem("the model has no tensor " + name, remedy);
    if (found->second.shape != shape)
      throw Problem(name + " has the shape " + words(found->second.shape) + ", not " + words(shape), remedy);
    return found->second.data;
  }

  const std::map<std::string, Array>& arrays_;
  Arena& arena_;
};

float softplus(float x) {
  return static_cast<float>(std::max<double>(x, 0) + std::log1p(std::exp(-std::abs(double{x}))));
}
float sigmoid(float x) { return static_cast<float>(1 / (1 + std::exp(-double{x}))); }

std::int64_t rows_of(const std::map<std::string, Array>& arrays, const std::string& name) {
  const auto found = arrays.find(name);
  return found == arrays.end() || found->second.shape.empty() ? 0 : found->second.shape[0];
}

// Lays all weights out, and returns how much memory they take.
std::size_t lay_out(const Shape& s, const std::map<std::string, Array>& arrays, char* at, Weights& w,
                    std::vector<Layer>& layers) {
  Arena arena(at);
  Packer pack(arrays, arena);
  w.width = s.width, w.inner = s.inner, w.taps = s.taps, w.layers = s.layers;
  w.beta_epsilon = static_cast<float>(s.beta_epsilon);
  w.start = pack.norm("layer_norm", s.width);
  layers.assign(static_cast<std::size_t>(s.layers), Layer{});
  for (std::int64_t l = 0; l < s.layers; ++l) {
    Layer& layer = layers[static_cast<std::size_t>(l)];
    const std::string here = "layers." + std::to_string(l) + ".", unit = here + "recurrent.";
    const std::int64_t wide = rows_of(arrays, here + "ffn.w_1.weight");
    layer.input = pack.product(unit + "input", s.width, 2 * s.inner, false);
    layer.taps = pack.taps(unit + "conv1d.weight", s.inner, s.taps);
    layer.conv_bias = pack.vector(unit + "conv1d.bias", {s.inner});
    layer.gates = pack.product(unit + "bdlru.gates", s.inner, 2 * s.inner);
    layer.decay = pack.vector(unit + "bdlru.Lambda", {s.inner}, softplus);
    layer.output = pack.product(unit + "output", s.inner, s.width, false);
    if (arrays.count(unit + "average.decay")) {
      layer.keep = pack.vector(unit + "average.decay", {s.width}, sigmoid);
      layer.take = pack.vector(unit + "average.decay", {s.width}, [](float x) { return sigmoid(-x); });
      layer.weight = pack.vector(unit + "average.weight", {s.width});
    }
    layer.middle = pack.norm(here + "layer_norm", s.width);
    layer.widen = pack.product(here + "ffn.w_1", s.width, wide);
    layer.narrow = pack.product(here + "ffn.w_2", wide, s.width);
    layer.end = pack.norm(here + "ffn_norm", s.width);
  }
  w.layer = layers.data();
  if (s.past) {
    w.time.past = pack.vector("time.past.knots.weight", {kKnots, s.width});
    w.time.fading = pack.vector("fading.logarithm.knots.weight", {kKnots, 1});
  }
  if (s.request) {
    const std::int64_t wide = rows_of(arrays, "time.answer.w_1.weight");
    w.time.next = pack.vector("time.next.knots.weight", {kKnots, s.width});
    w.time.answer_gap = pack.vector("time.answer.gap.knots.weight", {kKnots, s.width});
    w.time.answer_widen = pack.product("time.answer.w_1", 2 * s.width, wide);
    w.time.answer_narrow = pack.product("time.answer.w_2", wide, s.width);
  }
  return arena.used();
}

// The state that `steps` inputs of zero to every convolution leave behind.
std::vector<float> after_padding(const Weights& w, const std::vector<Layer>& layers, std::int64_t steps) {
  const auto size = static_cast<std::size_t>(w.state_size());
  std::vector<float> state(size, 0.0f);
  if (steps == 0) return state;
  const std::vector<float> zeros(static_cast<std::size_t>(whole_panels(2 * w.inner) * w.width), 0.0f);
  std::vector<Layer> silent = layers;
  for (Layer& layer : silent) layer.input.panels = zeros.data();
  Weights padding = w;
  padding.layer = silent.data();
  const std::vector<Event<float>> events(static_cast<std::size_t>(steps), {zeros.data(), 0, 0, state.data(), nullptr});
  pass(padding, events.data(), steps);
  // Padding is no input of the averages.
  for (std::int64_t l = 0; l < w.layers; ++l)
    std::fill_n(state.begin() + l * w.layer_state() + w.taps * w.inner, w.layer_state() - w.taps * w.inner, 0.0f);
  return state;
}

}  // namespace

std::int64_t scratch_size(const Weights& w) {
  std::int64_t wide = w.time.answer_gap ? whole_panels(2 * w.width) + whole_panels(w.time.answer_widen.outputs) : 0;
  for (std::int64_t l = 0; l < w.layers; ++l) wide = std::max(wide, whole_panels(w.layer[l].widen.outputs));
  return kEventBlock * (3 * whole_panels(w.width) + 2 * whole_panels(2 * w.inner) + 2 * whole_panels(w.inner) +
                        whole_panels(1) + wide);
}

template <typename S>
void pass(const Weights& weights, const Event<S>* events, std::int64_t count) {
  thread_local std::vector<float> scratch;
  const auto size = static_cast<std::size_t>(scratch_size(weights));
  if (scratch.size() < size) scratch.resize(size);
  compute(Pass<S>{&weights, events, scratch.data()}, Units{0, count});
}
template void pass(const Weights&, const Event<float>*, std::int64_t);
template void pass(const Weights&, const Event<Bfloat16>*, std::int64_t);

Model::Model(const Shape& shape, const std::map<std::string, Array>& arrays) {
  Weights counted{};
  memory_ = Memory(lay_out(shape, arrays, nullptr, counted, layers_));
  lay_out(shape, arrays, memory_.data(), weights_, layers_);
  start_ = after_padding(weights_, layers_, shape.padding_steps);
}

}  // namespace recblr::engine
