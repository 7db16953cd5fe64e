// torch.ops.recblr._causal_conv1d and its derivative on a CPU, on torch's stable C ABI; see bdlru_cpu.cpp.
#include "causal_conv1d.h"
#include "fused_arguments.h"

namespace recblr::torch_abi {
namespace {

struct Arguments {
  const char* op;
  Tensor x, weight, bias, initial;
  bool silu;
  Sequences s;
  std::int64_t width;
  std::vector<std::int64_t> past_shape;

  // From the stack: x, weight, bias, initial, offsets, silu.
  Arguments(const char* op, StableIValue* stack)
      : op(op), x(Tensor::required(stack[0])), weight(Tensor::required(stack[1])), bias(Tensor::optional(stack[2])),
        initial(Tensor::optional(stack[3])) {
    const Tensor offsets = Tensor::optional(stack[4]);
    silu = unbox<bool>(stack[5]);
    with_real(op, x, [](auto) {});
    check_aligned(op, "x", x);
    s = sequences(op, "x", x, offsets);
    if (weight.dim() != 2 || weight.size(1) < 1 || weight.size(1) > kMaxWidth)
      refuse(std::string(op) + ": weight must be (C, K) with K in 1.." + std::to_string(kMaxWidth) + ", but has shape " + shape(weight));
    width = weight.size(1);
    past_shape = {s.count, width - 1, s.channels};
    const std::int32_t wide = accumulation_dtype(x.dtype());
    check_shape(op, "weight", weight, {s.channels, width}, wide);
    check_shape(op, "bias", bias, {s.channels}, wide);
    check_shape(op, "initial", initial, past_shape, wide);
    x = with_adjacent_channels(std::move(x));
    bias = with_adjacent_channels(std::move(bias));
  }

  // weight's taps (K, C), one after another.
  template <typename A>
  std::vector<A> taps() const {
    std::vector<A> taps(static_cast<std::size_t>(width * s.channels));
    for (std::int64_t k = 0, i = 0; k < width; ++k)
      for (std::int64_t c = 0; c < s.channels; ++c, ++i)
        taps[static_cast<std::size_t>(i)] = weight.data<A>()[c * weight.stride(0) + k * weight.stride(1)];
    return taps;
  }

  template <typename T>
  ConvInputs<T> inputs(const std::vector<Accumulate<T>>& taps) const {
    using A = Accumulate<T>;
    return {extent(s, false), view<const T>(x), width, taps.data(), bias ? bias.data<A>() : nullptr,
            initial ? view<const A>(initial) : View<const A>{}, silu};
  }
};

// _causal_conv1d(Tensor x, Tensor weight, Tensor? bias, Tensor? initial, Tensor? offsets, bool silu) -> (Tensor y, Tensor final)
void causal_conv1d(StableIValue* stack, std::uint64_t, std::uint64_t) {
  const Arguments in("causal_conv1d", stack);
  Tensor y = empty_dense(sizes_of(in.x), in.x.dtype(), in.x);
  Tensor final = empty_dense(in.past_shape, accumulation_dtype(in.x.dtype()), in.x);
  with_real(in.op, in.x, [&](auto element) {
    using T = typename decltype(element)::type;
    using A = Accumulate<T>;
    const std::vector<A> taps = in.taps<A>();
    const ConvForward<T> work{in.inputs<T>(taps), view<T>(y), final.data<A>()};
    over_tasks(Tasks(work.in.extent, true), [&](const Task& task) { conv_forward(work, task); });
  });
  stack[0] = y.release();
  stack[1] = final.release();
}

// _causal_conv1d_backward(Tensor? grad, Tensor? grad_final, Tensor x, Tensor weight, Tensor? bias, Tensor? initial,
//   Tensor? offsets, bool silu) -> (Tensor dx, Tensor dweight, Tensor dbias, Tensor dinitial)
void causal_conv1d_backward(StableIValue* stack, std::uint64_t, std::uint64_t) {
  Tensor grad = Tensor::optional(stack[0]);
  const Tensor grad_final = Tensor::optional(stack[1]);
  const Arguments in("_causal_conv1d_backward", stack + 2);
  const std::int32_t dtype = in.x.dtype(), wide = accumulation_dtype(dtype);
  if (grad) check_same(in.op, "grad", grad, "x", in.x);
  grad = with_adjacent_channels(std::move(grad));
  check_shape(in.op, "grad_final", grad_final, in.past_shape, wide);

  Tensor dx = empty_dense(sizes_of(in.x), dtype, in.x), dweight = empty_dense({in.s.channels, in.width}, wide, in.x);
  Tensor dbias = empty_dense({in.s.channels}, wide, in.x), dinitial = empty_dense(in.past_shape, wide, in.x);
  with_real(in.op, in.x, [&](auto element) {
    using T = typename decltype(element)::type;
    using A = Accumulate<T>;
    const std::vector<A> taps = in.taps<A>();
    const Extent e = extent(in.s, false);
    const Tasks tasks(e, true);
    const std::int64_t channels = e.channels;
    std::vector<double> dtaps(static_cast<std::size_t>(tasks.runs() * in.width * channels));
    std::vector<double> dbiases(static_cast<std::size_t>(tasks.runs() * channels));
    const std::vector<T> zeros(grad ? 0 : static_cast<std::size_t>(channels));
    const ConvBackward<T> work{in.inputs<T>(taps),
                               grad ? view<const T>(grad) : View<const T>{zeros.data(), 0, 0, 1},
                               grad_final ? view<const A>(grad_final) : View<const A>{},
                               view<T>(dx),
                               dinitial.data<A>(),
                               dtaps.data(),
                               dbiases.data()};
    over_tasks(tasks, [&](const Task& task) { conv_backward(work, task); });
    std::vector<A> sums(static_cast<std::size_t>(in.width * channels));
    add_runs(dtaps, tasks.runs(), in.width * channels, sums.data());
    for (std::int64_t k = 0; k < in.width; ++k)
      for (std::int64_t c = 0; c < channels; ++c)
        dweight.data<A>()[c * in.width + k] = sums[static_cast<std::size_t>(k * channels + c)];
    add_runs(dbiases, tasks.runs(), channels, dbias.data<A>());
  });
  Tensor* results[] = {&dx, &dweight, &dbias, &dinitial};
  for (int i = 0; i < 4; ++i) stack[i] = results[i]->release();
}

[[maybe_unused]] const bool registered = [] {
  TorchLibraryHandle cpu;  // lives as long as the process
  RECBLR_OK(aoti_torch_library_init_impl("recblr", "CPU", "recblr/cpp/torch/causal_conv1d_cpu.cpp", 0, &cpu));
  RECBLR_OK(torch_library_impl(cpu, "_causal_conv1d", &causal_conv1d, kVersion));
  RECBLR_OK(torch_library_impl(cpu, "_causal_conv1d_backward", &causal_conv1d_backward, kVersion));
  return true;
}();

}  // namespace
}  // namespace recblr::torch_abi
