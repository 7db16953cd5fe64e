// torch.ops.recblr.scan and its variants for any device, on torch's stable C ABI: arguments, outputs, and boxing.
// Python defines the schemas (src/recblr/ops/scan.py).  The file of a device only registers implementations.
//
// Device is constructed from (op, b, offsets).  It provides an Extent and runs ScanForward<T> and ScanBackward<T>.
#pragma once
#include "arguments.h"
#include "core/scan.h"
#include "views.h"

namespace recblr::torch_abi {

struct ScanResult {
  Tensor h, final;
};

template <typename Device>
ScanResult run_scan(const char* op, StableIValue* stack, bool with_final) {
  const Tensor a = Tensor::required(stack[0]), b = Tensor::required(stack[1]);
  const Tensor initial = Tensor::optional(stack[2]), offsets = Tensor::optional(stack[3]);
  const bool reverse = unbox<bool>(stack[4]);
  check_dtype(op, "b", b);
  check_same(op, "a", a, "b", b);
  const Extent s = sequences(op, "b", b, offsets);
  check_state(op, "initial", initial, s, b.dtype());
  check_device(op, "a", a, b);
  check_device(op, "initial", initial, b);
  check_device(op, "offsets", offsets, b);
  const Device device(op, b, offsets);

  ScanResult result;
  result.h = empty_in_layout_of(b);
  if (with_final) result.final = empty_state(s, b.dtype(), b);
  with_element(b.dtype(), [&](auto element) {
    using T = typename decltype(element)::type;
    using A = Accumulate<T>;
    device.run(ScanForward<T>{device.extent(s, reverse), view<const T>(a), view<const T>(b),
                              state_view<const A>(initial), view<T>(result.h), state_view<A>(result.final)});
  });
  return result;
}

// scan(Tensor a, Tensor b, Tensor? initial, Tensor? offsets, bool reverse) -> Tensor
template <typename Device>
void scan(StableIValue* stack, std::uint64_t, std::uint64_t) {
  stack[0] = run_scan<Device>("scan", stack, false).h.release();
}

// scan_with_final(the same) -> (Tensor h, Tensor final)
template <typename Device>
void scan_with_final(StableIValue* stack, std::uint64_t, std::uint64_t) {
  ScanResult result = run_scan<Device>("scan_with_final", stack, true);
  stack[0] = result.h.release();
  stack[1] = result.final.release();
}

// _scan_backward(Tensor? grad, Tensor? grad_final, Tensor a, Tensor h, Tensor? initial, Tensor? offsets, bool reverse)
//   -> (Tensor da, Tensor db, Tensor dinitial)
template <typename Device>
void scan_backward(StableIValue* stack, std::uint64_t, std::uint64_t) {
  const char* op = "_scan_backward";
  const Tensor grad = Tensor::optional(stack[0]), grad_final = Tensor::optional(stack[1]);
  const Tensor a = Tensor::required(stack[2]), h = Tensor::required(stack[3]);
  const Tensor initial = Tensor::optional(stack[4]), offsets = Tensor::optional(stack[5]);
  const bool reverse = unbox<bool>(stack[6]);
  check_dtype(op, "h", h);
  check_same(op, "a", a, "h", h);
  if (grad) check_same(op, "grad", grad, "h", h);
  const Extent s = sequences(op, "h", h, offsets);
  check_state(op, "grad_final", grad_final, s, h.dtype());
  check_state(op, "initial", initial, s, h.dtype());
  check_device(op, "a", a, h);
  check_device(op, "grad", grad, h);
  check_device(op, "grad_final", grad_final, h);
  check_device(op, "initial", initial, h);
  check_device(op, "offsets", offsets, h);
  const Device device(op, h, offsets);

  Tensor da = empty_in_layout_of(h), db = empty_in_layout_of(h), dinitial = empty_state(s, h.dtype(), h);
  const Tensor zeros = grad ? Tensor() : zero_row(s, h);
  with_element(h.dtype(), [&](auto element) {
    using T = typename decltype(element)::type;
    using A = Accumulate<T>;
    device.run(ScanBackward<T>{device.extent(s, reverse), grad ? view<const T>(grad) : every_row<const T>(zeros),
                               view<const T>(a), view<const T>(h), state_view<const A>(initial),
                               state_view<const A>(grad_final), view<T>(da), view<T>(db), state_view<A>(dinitial)});
  });
  stack[0] = da.release();
  stack[1] = db.release();
  stack[2] = dinitial.release();
}

template <typename Device>
void implement_scan(TorchLibraryHandle library) {
  RECBLR_OK(torch_library_impl(library, "scan", &scan<Device>, kVersion));
  RECBLR_OK(torch_library_impl(library, "scan_with_final", &scan_with_final<Device>, kVersion));
  RECBLR_OK(torch_library_impl(library, "_scan_backward", &scan_backward<Device>, kVersion));
}

}  // namespace recblr::torch_abi
