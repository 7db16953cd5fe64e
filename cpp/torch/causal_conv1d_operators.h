// torch.ops.recblr._causal_conv1d and its derivative for any device; see bdlru_operators.h.
//
// Device runs forward(ConvForward<T>) and backward(ConvBackward<T>, dweight, dbias).  The device itself adds up these
// sums.
#pragma once
#include "core/causal_conv1d.h"
#include "fused_arguments.h"

namespace recblr::torch_abi {

// A new tensor (C, K) in the layout of the kernels: the taps lie one after another in memory, each with all channels.
inline Tensor empty_taps(std::int64_t channels, std::int64_t width, std::int32_t dtype, const Tensor& like) {
  const std::int64_t sizes[2] = {channels, width}, strides[2] = {1, channels > 0 ? channels : 1};
  return Tensor::empty(2, sizes, strides, dtype, like);
}

struct ConvArguments {
  const char* op;
  Tensor x, weight, bias, initial, offsets, taps;
  bool silu;
  Extent s;
  std::int64_t width;
  std::vector<std::int64_t> past_shape;

  // Takes x, weight, bias, initial, offsets and silu from the stack.  The operator takes its other tensors before (see
  // BdlruArguments).
  ConvArguments(const char* op, StableIValue* stack)
      : op(op),
        x(Tensor::required(stack[0])),
        weight(Tensor::required(stack[1])),
        bias(Tensor::optional(stack[2])),
        initial(Tensor::optional(stack[3])),
        offsets(Tensor::optional(stack[4])),
        silu(unbox<bool>(stack[5])) {
    with_real(op, x, [](auto) {});
    check_aligned(op, "x", x);
    s = sequences(op, "x", x, offsets);
    if (weight.dim() != 2 || weight.size(1) < 1 || weight.size(1) > kMaxWidth)
      refuse(std::string(op) + ": weight must be (C, K) with K in 1.." + std::to_string(kMaxWidth) +
             ", but has shape " + shape(weight));
    width = weight.size(1);
    past_shape = {s.sequences, width - 1, s.channels};
    const std::int32_t wide = accumulation_dtype(x.dtype());
    check_shape(op, "weight", weight, {s.channels, width}, wide);
    check_shape(op, "bias", bias, {s.channels}, wide);
    check_shape(op, "initial", initial, past_shape, wide);
    check_device(op, "weight", weight, x);
    check_device(op, "bias", bias, x);
    check_device(op, "initial", initial, x);
    check_device(op, "offsets", offsets, x);
    x = with_adjacent_channels(std::move(x));
    bias = with_adjacent_channels(std::move(bias));
    taps = empty_taps(s.channels, width, wide, x);
    taps.copy_from(weight);
  }

  template <typename T>
  ConvInputs<T> inputs(const Extent& extent) const {
    using A = Accumulate<T>;
    return {extent,
            view<const T>(x),
            width,
            taps.data<A>(),
            bias ? bias.data<A>() : nullptr,
            initial ? view<const A>(initial) : View<const A>{},
            silu};
  }
};

// _causal_conv1d(Tensor x, Tensor weight, Tensor? bias, Tensor? initial, Tensor? offsets, bool silu)
//   -> (Tensor y, Tensor final)
template <typename Device>
void causal_conv1d(StableIValue* stack, std::uint64_t, std::uint64_t) {
  const ConvArguments in("causal_conv1d", stack);
  const Device device(in.op, in.x, in.offsets);
  Tensor y = empty_dense(sizes_of(in.x), in.x.dtype(), in.x);
  Tensor final = empty_dense(in.past_shape, accumulation_dtype(in.x.dtype()), in.x);
  with_real(in.op, in.x, [&](auto element) {
    using T = typename decltype(element)::type;
    device.forward(ConvForward<T>{in.inputs<T>(device.extent(in.s)), view<T>(y), final.data<Accumulate<T>>()});
  });
  stack[0] = y.release();
  stack[1] = final.release();
}

// _causal_conv1d_backward(Tensor? grad, Tensor? grad_final, Tensor x, Tensor weight, Tensor? bias, Tensor? initial,
//   Tensor? offsets, bool silu) -> (Tensor dx, Tensor dweight, Tensor dbias, Tensor dinitial)
template <typename Device>
void causal_conv1d_backward(StableIValue* stack, std::uint64_t, std::uint64_t) {
  Tensor grad = Tensor::optional(stack[0]);
  const Tensor grad_final = Tensor::optional(stack[1]);
  const ConvArguments in("_causal_conv1d_backward", stack + 2);
  const std::int32_t dtype = in.x.dtype(), wide = accumulation_dtype(dtype);
  if (grad) check_same(in.op, "grad", grad, "x", in.x);
  check_shape(in.op, "grad_final", grad_final, in.past_shape, wide);
  check_device(in.op, "grad", grad, in.x);
  check_device(in.op, "grad_final", grad_final, in.x);
  const Device device(in.op, in.x, in.offsets);
  grad = with_adjacent_channels(std::move(grad));
  const Tensor zeros = grad ? Tensor() : zero_row(in.s, in.x);

  Tensor dx = empty_dense(sizes_of(in.x), dtype, in.x), dweight = empty_dense({in.s.channels, in.width}, wide, in.x);
  Tensor dbias = empty_dense({in.s.channels}, wide, in.x), dinitial = empty_dense(in.past_shape, wide, in.x);
  with_real(in.op, in.x, [&](auto element) {
    using T = typename decltype(element)::type;
    using A = Accumulate<T>;
    device.backward(
        ConvBackward<T>{in.inputs<T>(device.extent(in.s)), grad ? view<const T>(grad) : every_row<const T>(zeros),
                        grad_final ? view<const A>(grad_final) : View<const A>{}, view<T>(dx), dinitial.data<A>(),
                        nullptr, nullptr},
        dweight, dbias);
  });
  Tensor* results[] = {&dx, &dweight, &dbias, &dinitial};
  for (int i = 0; i < 4; ++i) stack[i] = results[i]->release();
}

template <typename Device>
void implement_causal_conv1d(TorchLibraryHandle library) {
  RECBLR_OK(torch_library_impl(library, "_causal_conv1d", &causal_conv1d<Device>, kVersion));
  RECBLR_OK(torch_library_impl(library, "_causal_conv1d_backward", &causal_conv1d_backward<Device>, kVersion));
}

}  // namespace recblr::torch_abi
