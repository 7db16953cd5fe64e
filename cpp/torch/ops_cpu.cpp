// torch.ops.recblr.*: the CPU kernels.  Python has defined the schemas (src/recblr/ops/schemas.py);
// this file only registers implementations for them, on torch's stable C ABI.
#include <type_traits>

#include "scan.h"
#include "scan_arguments.h"

namespace recblr::torch_abi {
namespace {

template <typename T>
View<T> view(const Tensor& t) {
  View<T> v;
  v.data = t.data<std::remove_const_t<T>>();
  v.sequence = t.dim() == 3 ? t.stride(0) : 0;
  v.time = t.stride(t.dim() - 2);
  v.channel = t.stride(t.dim() - 1);
  return v;
}

template <typename T>
View<T> state_view(const Tensor& t) {
  View<T> v;
  if (!t) return v;
  v.data = t.data<std::remove_const_t<T>>();
  v.sequence = t.stride(0);
  v.channel = t.stride(1);
  return v;
}

Extent extent(const Sequences& s, bool reverse) {
  Extent e;
  e.sequences = s.count;
  e.length = s.length;
  e.channels = s.channels;
  e.offsets = s.offsets.empty() ? nullptr : s.offsets.data();
  e.reverse = reverse;
  return e;
}

// Enough elements a task that starting it costs little beside doing it.
constexpr std::int64_t kElementsPerTask = 32768;

template <typename Work>
void parallel(const Work& work, std::int64_t rows, void (*range)(const Work&, std::int64_t, std::int64_t) noexcept) {
  struct Call {
    const Work& work;
    void (*range)(const Work&, std::int64_t, std::int64_t) noexcept;
  } call{work, range};
  const std::int64_t units = work.extent.units();
  if (units == 0) return;
  const std::int64_t elements_per_unit = rows * work.extent.channels / units + 1;
  RECBLR_OK(torch_parallel_for(0, units, kElementsPerTask / elements_per_unit + 1,
                               [](std::int64_t begin, std::int64_t end, void* p) {
                                 const Call& c = *static_cast<const Call*>(p);
                                 c.range(c.work, begin, end);
                               },
                               &call));
}

std::int64_t rows(const Tensor& t) { return t.dim() == 3 ? t.size(0) * t.size(1) : t.size(0); }

// float16 and bfloat16 are computed in float32; other dtypes come back as they are.
Tensor widened(Tensor t) {
  if (!is_half(t.dtype())) return t;
  Tensor wide = empty_contiguous(t, aoti_torch_dtype_float32());
  wide.copy_from(t);
  return wide;
}

template <typename T>
void run_forward(const Sequences& s, bool reverse, const Tensor& a, const Tensor& b, const Tensor& initial, const Tensor& h) {
  const ScanForward<T> work{extent(s, reverse), view<const T>(a), view<const T>(b), state_view<const T>(initial), view<T>(h)};
  parallel(work, rows(b), &scan_forward<T>);
}

// scan(Tensor a, Tensor b, Tensor? initial, Tensor? offsets, bool reverse) -> Tensor
void scan(StableIValue* stack, std::uint64_t, std::uint64_t) {
  Tensor a = Tensor::required(stack[0]), b = Tensor::required(stack[1]);
  const Tensor initial = Tensor::optional(stack[2]), offsets = Tensor::optional(stack[3]);
  const bool reverse = unbox<bool>(stack[4]);
  check_dtype("scan", "b", b);
  check_same("scan", "a", a, "b", b);
  const Sequences s = sequences("scan", "b", b, offsets);
  check_initial("scan", initial, s, b.dtype());

  Tensor h = empty_in_layout_of(b);
  if (b.dtype() == aoti_torch_dtype_float64()) {
    run_forward<double>(s, reverse, a, b, initial, h);
  } else if (b.dtype() == aoti_torch_dtype_float32()) {
    run_forward<float>(s, reverse, a, b, initial, h);
  } else {
    const Tensor wide_a = widened(std::move(a)), wide_b = widened(std::move(b));
    const Tensor wide_h = empty_contiguous(wide_b, wide_b.dtype());
    run_forward<float>(s, reverse, wide_a, wide_b, initial, wide_h);
    h.copy_from(wide_h);
  }
  stack[0] = h.release();
}

template <typename T>
void run_backward(const Sequences& s, bool reverse, const Tensor& grad, const Tensor& a, const Tensor& h, const Tensor& initial,
                  const Tensor& da, const Tensor& db, const Tensor& dinitial) {
  const ScanBackward<T> work{extent(s, reverse), view<const T>(grad),          view<const T>(a), view<const T>(h),
                             state_view<const T>(initial), view<T>(da), view<T>(db),      state_view<T>(dinitial)};
  parallel(work, rows(h), &scan_backward<T>);
}

// _scan_backward(Tensor grad, Tensor a, Tensor h, Tensor? initial, Tensor? offsets, bool reverse)
//   -> (Tensor da, Tensor db, Tensor dinitial)
void scan_backward_op(StableIValue* stack, std::uint64_t, std::uint64_t) {
  Tensor grad = Tensor::required(stack[0]), a = Tensor::required(stack[1]), h = Tensor::required(stack[2]);
  const Tensor initial = Tensor::optional(stack[3]), offsets = Tensor::optional(stack[4]);
  const bool reverse = unbox<bool>(stack[5]);
  const std::int32_t dtype = h.dtype();
  check_dtype("_scan_backward", "h", h);
  check_same("_scan_backward", "a", a, "h", h);
  check_same("_scan_backward", "grad", grad, "h", h);
  const Sequences s = sequences("_scan_backward", "h", h, offsets);
  check_initial("_scan_backward", initial, s, dtype);

  const std::int64_t state_sizes[2] = {s.count, s.channels};
  const std::int64_t state_strides[2] = {s.channels > 0 ? s.channels : 1, 1};
  Tensor dinitial = Tensor::empty(2, state_sizes, state_strides, accumulation_dtype(dtype), h);
  Tensor da = empty_contiguous(h, dtype), db = empty_contiguous(h, dtype);
  if (dtype == aoti_torch_dtype_float64()) {
    run_backward<double>(s, reverse, grad, a, h, initial, da, db, dinitial);
  } else if (dtype == aoti_torch_dtype_float32()) {
    run_backward<float>(s, reverse, grad, a, h, initial, da, db, dinitial);
  } else {
    const Tensor wide_grad = widened(std::move(grad)), wide_a = widened(std::move(a)), wide_h = widened(std::move(h));
    const Tensor wide_da = empty_contiguous(wide_h, wide_h.dtype()), wide_db = empty_contiguous(wide_h, wide_h.dtype());
    run_backward<float>(s, reverse, wide_grad, wide_a, wide_h, initial, wide_da, wide_db, dinitial);
    da.copy_from(wide_da);
    db.copy_from(wide_db);
  }
  stack[0] = da.release();
  stack[1] = db.release();
  stack[2] = dinitial.release();
}

// Schemas are Python's; a failure here reaches it as a missing kernel, which it reports.
[[maybe_unused]] const bool registered = [] {
  TorchLibraryHandle cpu;  // lives as long as the process
  RECBLR_OK(aoti_torch_library_init_impl("recblr", "CPU", "recblr/cpp/torch/ops_cpu.cpp", 0, &cpu));
  RECBLR_OK(torch_library_impl(cpu, "scan", &scan, kVersion));
  RECBLR_OK(torch_library_impl(cpu, "_scan_backward", &scan_backward_op, kVersion));
  return true;
}();

}  // namespace
}  // namespace recblr::torch_abi
