// recblr._core: the scan on NumPy arrays, and information on this build and this machine.  Needs no torch.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>  // std::optional, std::pair

#include <cstdint>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/dispatch.h"
#include "core/offsets.h"
#include "core/time_split.h"
#include "bind_engine.h"

namespace py = pybind11;
using namespace py::literals;

namespace {

using Offsets =
    py::array_t<std::int64_t, py::array::c_style | py::array::forcecast | py::detail::npy_api::NPY_ARRAY_ALIGNED_>;

std::string shape(const py::array& a) { return py::str(a.attr("shape")); }
std::string dtype(const py::array& a) { return py::str(a.dtype()); }

template <typename T>
struct Element {
  using type = T;
};

// Calls f(Element<T>()) with the element type of a dtype.  Returns false if the scan does not support the dtype.
template <typename F>
bool with_element(const py::dtype& d, F&& f) {
  const auto is = [&](const char* name) { return d.equal(py::dtype(name)); };
  if (is("float32")) return f(Element<float>()), true;
  if (is("float64")) return f(Element<double>()), true;
  if (is("float16")) return f(Element<recblr::Float16>()), true;
  if (is("complex64")) return f(Element<recblr::Complex<float>>()), true;
  if (is("complex128")) return f(Element<recblr::Complex<double>>()), true;
  return false;
}

py::dtype accumulation_dtype(const py::dtype& d) { return d.equal(py::dtype("float16")) ? py::dtype("float32") : d; }

// The view of an array (B, T, C) or (T, C).  In a view of states (B, C), the time stride is that of the first axis.
template <typename T>
recblr::View<T> view(const char* name, const py::array& a) {
  using Plain = std::remove_const_t<T>;
  const auto item = static_cast<py::ssize_t>(sizeof(Plain));
  bool aligned = reinterpret_cast<std::uintptr_t>(a.data()) % alignof(Plain) == 0;
  for (py::ssize_t i = 0; i < a.ndim(); ++i) aligned = aligned && a.strides(i) % item == 0;
  if (!aligned) throw py::value_error("scan: " + std::string(name) + " must be aligned to its elements; pass a copy");
  recblr::View<T> v;
  v.data = static_cast<T*>(const_cast<void*>(a.data()));
  v.sequence = a.ndim() == 3 ? a.strides(0) / item : 0;
  v.time = a.strides(a.ndim() - 2) / item;
  v.channel = a.strides(a.ndim() - 1) / item;
  return v;
}

template <typename T>
recblr::View<T> state_view(const char* name, const py::array& a) {
  const recblr::View<T> v = view<T>(name, a);
  return {v.data, v.time, 0, v.channel};
}

// Returns offsets as int64, after a check of shape and dtype. extent() checks their values.
std::optional<Offsets> checked(const std::optional<py::array>& offsets, const py::array& b) {
  if (!offsets) return std::nullopt;
  if (b.ndim() != 2) throw py::value_error("scan: with offsets, b must be packed (N, C), but has shape " + shape(b));
  if (offsets->ndim() != 1 || offsets->shape(0) < 1)
    throw py::value_error("scan: offsets must be (S + 1,), but has shape " + shape(*offsets));
  if (!offsets->dtype().equal(py::dtype::of<std::int64_t>()) && !offsets->dtype().equal(py::dtype::of<std::int32_t>()))
    throw py::value_error("scan: offsets must be int64 or int32, but is " + dtype(*offsets));
  return Offsets(*offsets);
}

recblr::Extent extent(const py::array& b, const std::optional<Offsets>& offsets, bool reverse) {
  const py::ssize_t rows = b.shape(b.ndim() - 2), channels = b.shape(b.ndim() - 1);
  recblr::Extent e = recblr::Extent::padded(b.ndim() == 3 ? b.shape(0) : 1, rows, channels);
  if (offsets) {
    const py::ssize_t count = offsets->shape(0);
    const std::string problem = recblr::offsets_problem(offsets->data(), static_cast<std::size_t>(count), rows);
    if (!problem.empty()) throw py::value_error("scan: " + problem);
    e = recblr::Extent::packed(count - 1, rows, channels, offsets->data());
  }
  e.reverse = reverse;
  return e;
}

// One thread does all units.  The units are split as in the torch operator, so the bits are the same.
struct Serial {
  template <typename F>
  void operator()(std::int64_t units, std::int64_t, const F& f) const {
    if (units > 0) f(0, units);
  }
};

struct Result {
  py::array h, final;
};

Result run_scan(const py::array& a, const py::array& b, const std::optional<py::array>& initial,
                const std::optional<py::array>& offsets, bool reverse, bool with_final) {
  if (!with_element(b.dtype(), [](auto) {}))
    throw py::value_error("scan: b must be float32, float64, float16, complex64 or complex128, but is " + dtype(b));
  if (b.ndim() != 2 && b.ndim() != 3)
    throw py::value_error("scan: b must be (B, T, C), or (T, C), but has shape " + shape(b));
  if (shape(a) != shape(b)) throw py::value_error("scan: a must have b's shape " + shape(b) + ", but has " + shape(a));
  if (!a.dtype().equal(b.dtype()))
    throw py::value_error("scan: a must have b's dtype " + dtype(b) + ", but has " + dtype(a));
  const std::optional<Offsets> boundaries = checked(offsets, b);
  const recblr::Extent e = extent(b, boundaries, reverse);
  const py::dtype state_dtype = accumulation_dtype(b.dtype());
  const std::vector<py::ssize_t> state_shape{e.sequences, e.channels};
  if (initial) {
    if (initial->ndim() != 2 || initial->shape(0) != e.sequences || initial->shape(1) != e.channels)
      throw py::value_error("scan: initial must have shape (" + std::to_string(e.sequences) + ", " +
                            std::to_string(e.channels) + "), one state per sequence, but has " + shape(*initial));
    if (!initial->dtype().equal(state_dtype))
      throw py::value_error("scan: initial must be " + std::string(py::str(state_dtype)) +
                            ", the accumulation dtype, but is " + dtype(*initial));
  }
  Result result;
  result.h = py::array(b.dtype(), std::vector<py::ssize_t>(b.shape(), b.shape() + b.ndim()));
  if (with_final) result.final = py::array(state_dtype, state_shape);
  with_element(b.dtype(), [&](auto element) {
    using T = typename decltype(element)::type;
    using A = recblr::Accumulate<T>;
    recblr::ScanForward<T> work;
    work.extent = e;
    work.a = view<const T>("a", a);
    work.b = view<const T>("b", b);
    if (initial) work.initial = state_view<const A>("initial", *initial);
    work.h = view<T>("h", result.h);
    if (with_final) work.final = state_view<A>("final", result.final);
    const py::gil_scoped_release nogil;
    recblr::run(work, Serial());
  });
  return result;
}

py::array scan(const py::array& a, const py::array& b, const std::optional<py::array>& initial,
               const std::optional<py::array>& offsets, bool reverse) {
  return run_scan(a, b, initial, offsets, reverse, false).h;
}

std::pair<py::array, py::array> scan_with_final(const py::array& a, const py::array& b,
                                                const std::optional<py::array>& initial,
                                                const std::optional<py::array>& offsets, bool reverse) {
  const Result result = run_scan(a, b, initial, offsets, reverse, true);
  return {result.h, result.final};
}

constexpr const char* kScanDoc = R"(h[t] = a[t] * h[t-1] + b[t] along the second-to-last axis of NumPy arrays.

a, b: (B, T, C), or (T, C), or packed (N, C) with offsets; float32, float64, float16 (summed in float32),
    complex64 or complex128; any strides.
initial: the state before the first step, (B, C), or (S, C) if packed, in the dtype of the sums; absent means zeros.
offsets: (S + 1,) int64 or int32, from 0 to N; sequence s owns rows offsets[s] to offsets[s + 1].
reverse: time runs from the last row to the first.
Returns a new contiguous array of b's shape and dtype.  Raises ValueError for any other input.)";

constexpr const char* kScanWithFinalDoc = R"(scan, and also the state after the last step of every sequence.

The arguments are those of scan.  Returns (h, final): final is (B, C), or (S, C) if packed, in the dtype of initial.
The final state of an empty sequence is its initial state, or zeros.)";

}  // namespace

PYBIND11_MODULE(_core, m, py::mod_gil_not_used()) {
  m.doc() = "The kernels of recblr on NumPy arrays, and information on this build and this machine.";
  if (const char* error = recblr::isa_error()) throw py::import_error(error);
  m.def("scan", &scan, kScanDoc, "a"_a, "b"_a, "initial"_a = py::none(), "offsets"_a = py::none(), "reverse"_a = false);
  m.def("scan_with_final", &scan_with_final, kScanWithFinalDoc, "a"_a, "b"_a, "initial"_a = py::none(),
        "offsets"_a = py::none(), "reverse"_a = false);
  bind_engine(m);
  m.def(
      "build_info",
      [] {
        py::dict info;
        info["version"] = RECBLR_VERSION;
        info["commit"] = RECBLR_COMMIT;
        info["compiler"] = RECBLR_COMPILER;
        info["torch_abi"] = RECBLR_TORCH_ABI;
        info["cuda"] = RECBLR_CUDA;
        info["cuda_architectures"] = RECBLR_CUDA_ARCHITECTURES;
        info["isa"] = recblr::isa_name(recblr::isa());
        info["isa_available"] = recblr::isa_available();
        return info;
      },
      "Describes this build and names the instruction set that it uses on this machine.");
}
