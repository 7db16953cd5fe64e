// torch.ops.recblr.scan and its kin on a CPU.  Python has defined the schemas (src/recblr/ops/schemas.py);
// this file only registers implementations for them, on torch's stable C ABI.
#include <vector>

#include "arguments.h"
#include "scan.h"
#include "time_split.h"
#include "views.h"

namespace recblr::torch_abi {
namespace {

struct ScanResult {
  Tensor h, final;
};

ScanResult run_scan(const char* op, StableIValue* stack, bool with_final) {
  const Tensor a = Tensor::required(stack[0]), b = Tensor::required(stack[1]);
  const Tensor initial = Tensor::optional(stack[2]), offsets = Tensor::optional(stack[3]);
  const bool reverse = unbox<bool>(stack[4]);
  check_dtype(op, "b", b);
  check_same(op, "a", a, "b", b);
  const Sequences s = sequences(op, "b", b, offsets);
  check_state(op, "initial", initial, s, b.dtype());

  ScanResult result;
  result.h = empty_in_layout_of(b);
  if (with_final) result.final = empty_state(s, b.dtype(), b);
  with_element(b.dtype(), [&](auto element) {
    using T = typename decltype(element)::type;
    using A = Accumulate<T>;
    run(ScanForward<T>{extent(s, reverse), view<const T>(a), view<const T>(b), state_view<const A>(initial), view<T>(result.h),
                       state_view<A>(result.final)},
        ParallelFor());
  });
  return result;
}

// scan(Tensor a, Tensor b, Tensor? initial, Tensor? offsets, bool reverse) -> Tensor
void scan(StableIValue* stack, std::uint64_t, std::uint64_t) { stack[0] = run_scan("scan", stack, false).h.release(); }

// scan_with_final(the same) -> (Tensor h, Tensor final)
void scan_with_final(StableIValue* stack, std::uint64_t, std::uint64_t) {
  ScanResult result = run_scan("scan_with_final", stack, true);
  stack[0] = result.h.release();
  stack[1] = result.final.release();
}

// _scan_backward(Tensor? grad, Tensor? grad_final, Tensor a, Tensor h, Tensor? initial, Tensor? offsets, bool reverse)
//   -> (Tensor da, Tensor db, Tensor dinitial)
void scan_backward(StableIValue* stack, std::uint64_t, std::uint64_t) {
  const char* op = "_scan_backward";
  const Tensor grad = Tensor::optional(stack[0]), grad_final = Tensor::optional(stack[1]);
  const Tensor a = Tensor::required(stack[2]), h = Tensor::required(stack[3]);
  const Tensor initial = Tensor::optional(stack[4]), offsets = Tensor::optional(stack[5]);
  const bool reverse = unbox<bool>(stack[6]);
  check_dtype(op, "h", h);
  check_same(op, "a", a, "h", h);
  if (grad) check_same(op, "grad", grad, "h", h);
  const Sequences s = sequences(op, "h", h, offsets);
  check_state(op, "grad_final", grad_final, s, h.dtype());
  check_state(op, "initial", initial, s, h.dtype());

  Tensor da = empty_in_layout_of(h), db = empty_in_layout_of(h), dinitial = empty_state(s, h.dtype(), h);
  with_element(h.dtype(), [&](auto element) {
    using T = typename decltype(element)::type;
    using A = Accumulate<T>;
    // Where h has no cotangent, one row of zeros stands for every row of it.
    const std::vector<T> zeros(grad ? 0 : static_cast<std::size_t>(s.channels));
    const View<const T> dh = grad ? view<const T>(grad) : View<const T>{zeros.data(), 0, 0, 1};
    run(ScanBackward<T>{extent(s, reverse), dh, view<const T>(a), view<const T>(h), state_view<const A>(initial),
                        state_view<const A>(grad_final), view<T>(da), view<T>(db), state_view<A>(dinitial)},
        ParallelFor());
  });
  stack[0] = da.release();
  stack[1] = db.release();
  stack[2] = dinitial.release();
}

// Schemas are Python's; a failure here reaches it as a missing kernel, which it reports.
[[maybe_unused]] const bool registered = [] {
  TorchLibraryHandle cpu;  // lives as long as the process
  RECBLR_OK(aoti_torch_library_init_impl("recblr", "CPU", "recblr/cpp/torch/scan_cpu.cpp", 0, &cpu));
  RECBLR_OK(torch_library_impl(cpu, "scan", &scan, kVersion));
  RECBLR_OK(torch_library_impl(cpu, "scan_with_final", &scan_with_final, kVersion));
  RECBLR_OK(torch_library_impl(cpu, "_scan_backward", &scan_backward, kVersion));
  return true;
}();

}  // namespace
}  // namespace recblr::torch_abi
