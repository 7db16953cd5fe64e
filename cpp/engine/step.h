// The model's weights as the engine reads them, and the pass of events through the model.
//
// A pass takes events one after another into states.  Its work is a list of events: one event of one user, an event
// each of many users, or the whole history of one.  An event that shares its state with an earlier one of the list
// comes after it.  Every output has one order of sums, so the bits do not depend on how events are put into lists.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/dispatch.h"
#include "core/elements.h"
#include "engine/memory.h"

namespace recblr::engine {

// y = W x + bias.  The weights are in panels of kOutputPanel outputs: for each input, the weights of these outputs are
// neighbours.  Outputs beyond the last one have weights of zero.
constexpr std::int64_t kOutputPanel = 32;
struct Product {
  std::int64_t inputs, outputs;
  const float* panels;
  const float* bias;  // (outputs, rounded up to whole panels), zeros if there is none
};
constexpr std::int64_t whole_panels(std::int64_t outputs) {
  return (outputs + kOutputPanel - 1) / kOutputPanel * kOutputPanel;
}

struct Norm {
  const float *scale, *shift;
};

// D is the width of the model, H of the recurrence, K the number of taps.
struct Layer {
  Product input, gates, output, widen, narrow;  // D -> 2H, H -> 2H, H -> D, D -> F, F -> D
  const float *taps, *conv_bias, *decay;        // (K, H), (H), (H)
  const float *keep, *take, *weight;            // the history average, (D) each: a, 1 - a, w; null if there is none
  Norm middle, end;
};

// The knots of learned functions of a gap (recblr.nn.time.GapFunction): (kKnots, width).
constexpr int kKnots = 48;
constexpr float kKnotsPerDoubling = 1.5f;

// What the model knows of time.  Null pointers: it does not know it.
struct TimeWeights {
  const float *past, *next, *fading;  // widths D, D and 1
  const float* answer_gap;            // width D
  Product answer_widen, answer_narrow;
};

struct Weights {
  std::int64_t width, inner, taps, layers;
  float beta_epsilon;
  const Layer* layer;
  Norm start;
  TimeWeights time;

  std::int64_t layer_state() const { return taps * inner + (layer[0].keep ? width : 0); }
  std::int64_t state_size() const { return layers * layer_state(); }
};

// item: the embedding, (D).
// past, next: the seconds since the event before, and to the next event or the request.
// state: (state_size()), the state before the event; afterwards the state after it.
// hidden: (D), the answer after the event; null if nobody asks.
template <typename S>
struct Event {
  const float* item;
  float past, next;
  S* state;
  float* hidden;
};

// A state of a layer is the convolution's last K - 1 inputs, oldest first, the hidden state (H) and the average (D).
// S is the type that keeps a state: float, or Bfloat16.  Sums are float32 in both.
template <typename S>
struct Pass {
  using Share = Units;
  const Weights* weights;
  const Event<S>* events;
  float* scratch;  // scratch_size(), for one thread
};

// A pass takes this many events at a time, whose vectors stay in the L2 cache.
constexpr std::int64_t kEventBlock = 32;
std::int64_t scratch_size(const Weights& w);

}  // namespace recblr::engine

namespace recblr {
RECBLR_KERNEL(engine::Pass<float>)
RECBLR_KERNEL(engine::Pass<Bfloat16>)
}  // namespace recblr

namespace recblr::engine {

// Passes events through the model, on this thread.
template <typename S>
void pass(const Weights& weights, const Event<S>* events, std::int64_t count);

// An array of float32 numbers of the model file.
struct Array {
  const float* data;
  std::vector<std::int64_t> shape;
};

struct Shape {
  std::int64_t width, inner, taps, layers, padding_steps;
  double beta_epsilon;
  bool past, request;
};

// The weights of a model, packed.  Arrays have the names of the model file.
class Model {
 public:
  // Raises Problem if an array is missing or has another shape.
  Model(const Shape& shape, const std::map<std::string, Array>& arrays);
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  const Weights& weights() const { return weights_; }
  const std::vector<float>& start() const { return start_; }  // the state before the first event

 private:
  Weights weights_{};
  std::vector<Layer> layers_;
  Memory memory_;
  std::vector<float> start_;
};

}  // namespace recblr::engine
