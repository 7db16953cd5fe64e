// torch.ops.recblr._softmax_gradient_ and _dropout on a CPU, in float32 and float64 (see scan_cpu.cpp).
#include <string>

#include "device_cpu.h"
#include "training_rows.h"

namespace recblr::torch_abi {
namespace {

template <typename F>
void with_real(const char* op, const char* name, const Tensor& t, F&& f) {
  check_aligned(op, name, t);
  if (t.dtype() == aoti_torch_dtype_float32()) return f(Element<float>());
  if (t.dtype() == aoti_torch_dtype_float64()) return f(Element<double>());
  refuse(std::string(op) + ": " + name + " must be float32 or float64, but is " + dtype_name(t.dtype()));
}

bool is_contiguous(const Tensor& t) {
  std::int64_t expected = 1;
  for (int i = t.dim() - 1; i >= 0; expected *= t.size(i--))
    if (t.size(i) != 1 && t.stride(i) != expected) return t.numel() == 0;
  return true;
}

// _softmax_gradient_(Tensor(a!) logits, Tensor targets) -> Tensor
void softmax_gradient_(StableIValue* stack, std::uint64_t, std::uint64_t) {
  const std::string op = "linear_cross_entropy";  // what people call
  const Tensor logits = Tensor::required(stack[0]), targets = Tensor::required(stack[1]);
  if (logits.dim() != 2 || !is_contiguous(logits)) refuse(op + ": logits must be a contiguous (N, V), but has shape " + shape(logits));
  const std::int64_t rows = logits.size(0), catalogue = logits.size(1);
  if (targets.dim() != 1 || targets.size(0) != rows)
    refuse(op + ": targets must have shape (" + std::to_string(rows) + ",), a target a row, but has " + shape(targets));
  if (targets.dtype() != aoti_torch_dtype_int64()) refuse(op + ": targets must be int64, but is " + dtype_name(targets.dtype()));
  const std::vector<std::int64_t> wanted = read_offsets<std::int64_t>(targets);
  for (const std::int64_t target : wanted)
    if (target < 0 || target >= catalogue)
      refuse(op + ": targets must lie in 0.." + std::to_string(catalogue - 1) + ", but one is " + std::to_string(target));

  const std::int64_t one = 1;
  Tensor losses = Tensor::empty(1, &rows, &one, logits.dtype(), logits);
  with_real(op.c_str(), "logits", logits, [&](auto element) {
    using T = typename decltype(element)::type;
    const SoftmaxGradient<T> work{logits.data<T>(), wanted.data(), losses.data<T>(), catalogue};
    ParallelFor()(rows, catalogue, [&](std::int64_t begin, std::int64_t end) { softmax_gradient(work, begin, end); });
  });
  stack[0] = losses.release();
}

// _dropout(Tensor x, int seed, float p) -> Tensor
void dropout(StableIValue* stack, std::uint64_t, std::uint64_t) {
  const std::string op = "_dropout";
  const Tensor x = Tensor::required(stack[0]);
  const auto seed = unbox<std::int64_t>(stack[1]);
  const auto p = unbox<double>(stack[2]);
  if (!is_contiguous(x)) refuse(op + ": x must be contiguous, but its strides say otherwise; pass a copy");
  if (!(p >= 0 && p < 1)) refuse(op + ": p must lie in [0, 1), but is " + std::to_string(p));
  Tensor y = Tensor::empty(x.dim(), x.sizes(), x.strides(), x.dtype(), x);
  with_real(op.c_str(), "x", x, [&](auto element) {
    using T = typename decltype(element)::type;
    const recblr::Dropout<T> work{x.data<T>(), y.data<T>(), x.numel(), static_cast<std::uint64_t>(seed),
                                  static_cast<std::uint32_t>((1 - p) * 0xffffffffu + 0.5), static_cast<T>(1 / (1 - p))};
    ParallelFor()(work.units(), work.kBlock, [&](std::int64_t begin, std::int64_t end) { recblr::dropout(work, begin, end); });
  });
  stack[0] = y.release();
}

[[maybe_unused]] const bool registered = [] {
  TorchLibraryHandle cpu;  // lives as long as the process
  RECBLR_OK(aoti_torch_library_init_impl("recblr", "CPU", "recblr/cpp/torch/training_cpu.cpp", 0, &cpu));
  RECBLR_OK(torch_library_impl(cpu, "_softmax_gradient_", &softmax_gradient_, kVersion));
  RECBLR_OK(torch_library_impl(cpu, "_dropout", &dropout, kVersion));
  return true;
}();

}  // namespace
}  // namespace recblr::torch_abi
