// torch.ops.recblr._dropout on a CPU, in float32 and float64 (see scan_cpu.cpp).
#include <string>

#include "training_arguments.h"
#include "core/training_rows.h"

namespace recblr::torch_abi {
namespace {

// _dropout(Tensor x, int seed, float p) -> Tensor
void dropout(StableIValue* stack, std::uint64_t, std::uint64_t) {
  const std::string op = "_dropout";
  const Tensor x = Tensor::required(stack[0]);
  const auto seed = unbox<std::int64_t>(stack[1]);
  const auto p = unbox<double>(stack[2]);
  if (!is_contiguous(x)) refuse(op + ": x must be contiguous, but is not; pass x.contiguous()");
  if (!(p >= 0 && p < 1)) refuse(op + ": p must lie in [0, 1), but is " + std::to_string(p));
  Tensor y = Tensor::empty(x.dim(), x.sizes(), x.strides(), x.dtype(), x);
  with_float_or_double(op, "x", x, [&](auto element) {
    using T = typename decltype(element)::type;
    const recblr::Dropout<T> work{x.data<T>(),
                                  y.data<T>(),
                                  x.numel(),
                                  static_cast<std::uint64_t>(seed),
                                  static_cast<std::uint32_t>((1 - p) * 0xffffffffu + 0.5),
                                  static_cast<T>(1 / (1 - p))};
    ParallelFor()(work.units(), work.kBlock,
                  [&](std::int64_t begin, std::int64_t end) { compute(work, {begin, end}); });
  });
  stack[0] = y.release();
}

[[maybe_unused]] const bool registered = [] {
  TorchLibraryHandle cpu;  // lives as long as the process
  RECBLR_OK(aoti_torch_library_init_impl("recblr", "CPU", "recblr/cpp/torch/dropout_cpu.cpp", 0, &cpu));
  RECBLR_OK(torch_library_impl(cpu, "_dropout", &dropout, kVersion));
  return true;
}();

}  // namespace
}  // namespace recblr::torch_abi
