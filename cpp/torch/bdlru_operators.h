// torch.ops.recblr._bdlru and its derivative for any device (see scan_operators.h).  Python checks the arguments of the
// public operator first (src/recblr/ops/bdlru.py).  The checks here refuse every input that would read out of bounds.
//
// Device runs forward(BdlruForward<T>) and backward(BdlruBackward<T>, ddecay).  The device itself sums up ddecay.
#pragma once
#include "core/bdlru.h"
#include "fused_arguments.h"

namespace recblr::torch_abi {

struct BdlruArguments {
  const char* op;
  Tensor x, gates, decay, z, initial, offsets, scale;
  Extent s;

  // Takes x, gates, decay, z, initial, offsets and scale from the stack.  The operator must take its other tensors
  // before, because this constructor may throw, and then nobody would free them.
  BdlruArguments(const char* op, StableIValue* stack)
      : op(op),
        x(Tensor::required(stack[0])),
        gates(Tensor::required(stack[1])),
        decay(Tensor::required(stack[2])),
        z(Tensor::optional(stack[3])),
        initial(Tensor::optional(stack[4])),
        offsets(Tensor::optional(stack[5])),
        scale(Tensor::optional(stack[6])) {
    with_real(op, x, [](auto) {});
    check_aligned(op, "x", x);
    s = sequences(op, "x", x, offsets);
    const std::int32_t wide = accumulation_dtype(x.dtype());
    std::vector<std::int64_t> sizes = sizes_of(x);
    sizes.back() = 2 * s.channels;
    check_shape(op, "gates", gates, sizes, x.dtype());
    sizes.back() = 1;
    check_shape(op, "scale", scale, sizes, wide);
    check_shape(op, "decay", decay, {s.channels}, wide);
    if (z) check_same(op, "z", z, "x", x);
    check_state(op, "initial", initial, s, x.dtype());
    check_device(op, "gates", gates, x);
    check_device(op, "decay", decay, x);
    check_device(op, "z", z, x);
    check_device(op, "initial", initial, x);
    check_device(op, "offsets", offsets, x);
    check_device(op, "scale", scale, x);
    x = with_adjacent_channels(std::move(x));
    gates = with_adjacent_channels(std::move(gates));
    z = with_adjacent_channels(std::move(z));
    decay = with_adjacent_channels(std::move(decay));
  }

  std::vector<std::int64_t> states_shape() const { return {(s.rows + kStateRows - 1) / kStateRows, s.channels}; }

  template <typename T>
  BdlruInputs<T> inputs(const Extent& extent) const {
    using A = Accumulate<T>;
    return {extent,
            view<const T>(x),
            view<const T>(gates),
            z ? view<const T>(z) : View<const T>{},
            decay.data<A>(),
            scale ? view<const A>(scale) : View<const A>{},
            state_view<const A>(initial)};
  }
};

// _bdlru(Tensor x, Tensor gates, Tensor decay, Tensor? z, Tensor? initial, Tensor? offsets, Tensor? scale)
//   -> (Tensor y, Tensor final, Tensor states)
template <typename Device>
void bdlru(StableIValue* stack, std::uint64_t, std::uint64_t) {
  const BdlruArguments in("bdlru", stack);
  const Device device(in.op, in.x, in.offsets);
  const std::int32_t wide = accumulation_dtype(in.x.dtype());
  Tensor y = empty_dense(sizes_of(in.x), in.x.dtype(), in.x), final = empty_state(in.s, in.x.dtype(), in.x);
  Tensor states = empty_dense(in.states_shape(), wide, in.x);
  with_real(in.op, in.x, [&](auto element) {
    using T = typename decltype(element)::type;
    using A = Accumulate<T>;
    device.forward(BdlruForward<T>{in.inputs<T>(device.extent(in.s)), view<T>(y), final.data<A>(), states.data<A>()});
  });
  stack[0] = y.release();
  stack[1] = final.release();
  stack[2] = states.release();
}

// _bdlru_backward(Tensor? grad, Tensor? grad_final, Tensor x, Tensor gates, Tensor decay, Tensor? z, Tensor? initial,
//   Tensor? offsets, Tensor? scale, Tensor states)
//   -> (Tensor dx, Tensor dgates, Tensor ddecay, Tensor dz, Tensor dinitial, Tensor dscale)
template <typename Device>
void bdlru_backward(StableIValue* stack, std::uint64_t, std::uint64_t) {
  Tensor grad = Tensor::optional(stack[0]);
  const Tensor grad_final = Tensor::optional(stack[1]);
  const Tensor states = Tensor::required(stack[9]);
  const BdlruArguments in("_bdlru_backward", stack + 2);
  const std::int32_t dtype = in.x.dtype(), wide = accumulation_dtype(dtype);
  if (grad) check_same(in.op, "grad", grad, "x", in.x);
  check_state(in.op, "grad_final", grad_final, in.s, dtype);
  check_shape(in.op, "states", states, in.states_shape(), wide);
  if (sizes_of(states) != in.states_shape() || (states.numel() > 0 && !is_dense(states)))
    refuse("_bdlru_backward: states must be the states that _bdlru returned");
  check_device(in.op, "grad", grad, in.x);
  check_device(in.op, "grad_final", grad_final, in.x);
  check_device(in.op, "states", states, in.x);
  const Device device(in.op, in.x, in.offsets);
  grad = with_adjacent_channels(std::move(grad));
  const Tensor zeros = grad ? Tensor() : zero_row(in.s, in.x);

  const std::vector<std::int64_t> shape = sizes_of(in.x), none{0};
  std::vector<std::int64_t> gates_shape = shape, scale_shape = shape;
  gates_shape.back() *= 2;
  scale_shape.back() = 1;
  Tensor dx = empty_dense(shape, dtype, in.x), dgates = empty_dense(gates_shape, dtype, in.x);
  Tensor ddecay = empty_dense({in.s.channels}, wide, in.x), dz = empty_dense(in.z ? shape : none, dtype, in.x);
  Tensor dinitial = empty_state(in.s, dtype, in.x), dscale = empty_dense(in.scale ? scale_shape : none, wide, in.x);
  if (in.s.channels == 0) dscale.zero();  // nothing else writes to it
  with_real(in.op, in.x, [&](auto element) {
    using T = typename decltype(element)::type;
    using A = Accumulate<T>;
    device.backward(
        BdlruBackward<T>{in.inputs<T>(device.extent(in.s)), grad ? view<const T>(grad) : every_row<const T>(zeros),
                         state_view<const A>(grad_final), states.data<A>(), view<T>(dx), view<T>(dgates),
                         in.z ? view<T>(dz) : View<T>{}, dinitial.data<A>(), in.scale ? dscale.data<A>() : nullptr,
                         nullptr},
        ddecay);
  });
  Tensor* results[] = {&dx, &dgates, &ddecay, &dz, &dinitial, &dscale};
  for (int i = 0; i < 6; ++i) stack[i] = results[i]->release();
}

template <typename Device>
void implement_bdlru(TorchLibraryHandle library) {
  RECBLR_OK(torch_library_impl(library, "_bdlru", &bdlru<Device>, kVersion));
  RECBLR_OK(torch_library_impl(library, "_bdlru_backward", &bdlru_backward<Device>, kVersion));
}

}  // namespace recblr::torch_abi
