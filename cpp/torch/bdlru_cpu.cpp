// torch.ops.recblr._bdlru and its derivative on a CPU, on torch's stable C ABI.  What the public operator refuses is
// refused in Python, before (src/recblr/ops/fused.py); here, whatever would read beyond memory.
#include "bdlru.h"
#include "fused_arguments.h"

namespace recblr::torch_abi {
namespace {

struct Arguments {
  const char* op;
  Tensor x, gates, decay, z, initial, scale;
  Sequences s;
  std::int64_t rows;

  // From the stack: x, gates, decay, z, initial, offsets, scale.
  Arguments(const char* op, StableIValue* stack)
      : op(op), x(Tensor::required(stack[0])), gates(Tensor::required(stack[1])), decay(Tensor::required(stack[2])),
        z(Tensor::optional(stack[3])), initial(Tensor::optional(stack[4])) {
    const Tensor offsets = Tensor::optional(stack[5]);
    scale = Tensor::optional(stack[6]);
    with_real(op, x, [](auto) {});
    check_aligned(op, "x", x);
    s = sequences(op, "x", x, offsets);
    rows = x.dim() == 3 ? x.size(0) * x.size(1) : x.size(0);
    const std::int32_t wide = accumulation_dtype(x.dtype());
    std::vector<std::int64_t> sizes = sizes_of(x);
    sizes.back() = 2 * s.channels;
    check_shape(op, "gates", gates, sizes, x.dtype());
    sizes.back() = 1;
    check_shape(op, "scale", scale, sizes, wide);
    check_shape(op, "decay", decay, {s.channels}, wide);
    if (z) check_same(op, "z", z, "x", x);
    check_state(op, "initial", initial, s, x.dtype());
    x = with_adjacent_channels(std::move(x));
    gates = with_adjacent_channels(std::move(gates));
    z = with_adjacent_channels(std::move(z));
    decay = with_adjacent_channels(std::move(decay));
  }

  std::vector<std::int64_t> states_shape() const { return {(rows + kStateRows - 1) / kStateRows, s.channels}; }

  template <typename T>
  BdlruInputs<T> inputs() const {
    using A = Accumulate<T>;
    return {extent(s, false),
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
void bdlru(StableIValue* stack, std::uint64_t, std::uint64_t) {
  const Arguments in("bdlru", stack);
  const std::int32_t wide = accumulation_dtype(in.x.dtype());
  Tensor y = empty_dense(sizes_of(in.x), in.x.dtype(), in.x), final = empty_state(in.s, in.x.dtype(), in.x);
  Tensor states = empty_dense(in.states_shape(), wide, in.x);
  with_real(in.op, in.x, [&](auto element) {
    using T = typename decltype(element)::type;
    using A = Accumulate<T>;
    const BdlruForward<T> work{in.inputs<T>(), view<T>(y), final.data<A>(), states.data<A>()};
    over_tasks(Tasks(work.in.extent), [&](const Task& task) { bdlru_forward(work, task); });
  });
  stack[0] = y.release();
  stack[1] = final.release();
  stack[2] = states.release();
}

// _bdlru_backward(Tensor? grad, Tensor? grad_final, Tensor x, Tensor gates, Tensor decay, Tensor? z, Tensor? initial,
//   Tensor? offsets, Tensor? scale, Tensor states)
//   -> (Tensor dx, Tensor dgates, Tensor ddecay, Tensor dz, Tensor dinitial, Tensor dscale)
void bdlru_backward(StableIValue* stack, std::uint64_t, std::uint64_t) {
  Tensor grad = Tensor::optional(stack[0]);
  const Tensor grad_final = Tensor::optional(stack[1]);
  const Arguments in("_bdlru_backward", stack + 2);
  const Tensor states = Tensor::required(stack[9]);
  const std::int32_t dtype = in.x.dtype(), wide = accumulation_dtype(dtype);
  if (grad) check_same(in.op, "grad", grad, "x", in.x);
  grad = with_adjacent_channels(std::move(grad));
  check_state(in.op, "grad_final", grad_final, in.s, dtype);
  check_shape(in.op, "states", states, in.states_shape(), wide);
  if (sizes_of(states) != in.states_shape() || (states.numel() > 0 && !is_dense(states)))
    refuse("_bdlru_backward: states must be _bdlru's");

  const std::vector<std::int64_t> shape = sizes_of(in.x), none{0};
  std::vector<std::int64_t> gates_shape = shape, scale_shape = shape;
  gates_shape.back() *= 2;
  scale_shape.back() = 1;
  Tensor dx = empty_dense(shape, dtype, in.x), dgates = empty_dense(gates_shape, dtype, in.x);
  Tensor ddecay = empty_dense({in.s.channels}, wide, in.x), dz = empty_dense(in.z ? shape : none, dtype, in.x);
  Tensor dinitial = empty_state(in.s, dtype, in.x), dscale = empty_dense(in.scale ? scale_shape : none, wide, in.x);
  with_real(in.op, in.x, [&](auto element) {
    using T = typename decltype(element)::type;
    using A = Accumulate<T>;
    const Extent e = extent(in.s, false);
    Tasks tasks(e);
    if (in.scale) tasks.join_channels();
    if (in.scale && e.channels == 0)
      for (std::int64_t row = 0; row < in.rows; ++row) dscale.data<A>()[row] = A(0);
    std::vector<double> parts(static_cast<std::size_t>(tasks.runs() * e.channels));
    // Where y has no cotangent, one row of zeros stands for every row of it.
    const std::vector<T> zeros(grad ? 0 : static_cast<std::size_t>(e.channels));
    const BdlruBackward<T> work{in.inputs<T>(),
                                grad ? view<const T>(grad) : View<const T>{zeros.data(), 0, 0, 1},
                                state_view<const A>(grad_final),
                                states.data<A>(),
                                view<T>(dx),
                                view<T>(dgates),
                                in.z ? view<T>(dz) : View<T>{},
                                dinitial.data<A>(),
                                in.scale ? dscale.data<A>() : nullptr,
                                parts.data()};
    over_tasks(tasks, [&](const Task& task) { bdlru_backward(work, task); });
    add_runs(parts, tasks.runs(), e.channels, ddecay.data<A>());
  });
  Tensor* results[] = {&dx, &dgates, &ddecay, &dz, &dinitial, &dscale};
  for (int i = 0; i < 6; ++i) stack[i] = results[i]->release();
}

[[maybe_unused]] const bool registered = [] {
  TorchLibraryHandle cpu;  // lives as long as the process
  RECBLR_OK(aoti_torch_library_init_impl("recblr", "CPU", "recblr/cpp/torch/bdlru_cpu.cpp", 0, &cpu));
  RECBLR_OK(torch_library_impl(cpu, "_bdlru", &bdlru, kVersion));
  RECBLR_OK(torch_library_impl(cpu, "_bdlru_backward", &bdlru_backward, kVersion));
  return true;
}();

}  // namespace
}  // namespace recblr::torch_abi
