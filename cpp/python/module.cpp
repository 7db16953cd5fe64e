// recblr._core: the scan on NumPy arrays, and what this build and this machine are.  Needs no torch.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>  // None for an absent std::optional

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "isa.h"
#include "offsets.h"
#include "scan.h"

namespace py = pybind11;
using namespace py::literals;

namespace {

using Offsets = py::array_t<std::int64_t, py::array::c_style | py::array::forcecast>;

std::string shape(const py::array& a) { return py::str(a.attr("shape")); }
std::string dtype(const py::array& a) { return py::str(a.dtype()); }

template <typename T>
recblr::View<T> view(const char* name, const py::array& a) {
  const auto item = static_cast<py::ssize_t>(sizeof(T));
  bool aligned = reinterpret_cast<std::uintptr_t>(a.data()) % sizeof(T) == 0;
  for (py::ssize_t i = 0; i < a.ndim(); ++i) aligned = aligned && a.strides(i) % item == 0;
  if (!aligned) throw py::value_error("scan: " + std::string(name) + " must be aligned to its elements; pass a copy");
  recblr::View<T> v;
  v.data = static_cast<T*>(const_cast<void*>(a.data()));
  v.sequence = a.ndim() == 3 ? a.strides(0) / item : 0;
  v.time = a.strides(a.ndim() - 2) / item;
  v.channel = a.strides(a.ndim() - 1) / item;
  return v;
}

// Offsets as int64, of a shape and dtype that fit; their values are checked by extent().
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
  recblr::Extent e;
  e.reverse = reverse;
  e.channels = b.shape(b.ndim() - 1);
  if (!offsets) {
    e.sequences = b.ndim() == 3 ? b.shape(0) : 1;
    e.length = b.shape(b.ndim() - 2);
    return e;
  }
  const py::ssize_t count = offsets->shape(0);
  const std::string problem = recblr::offsets_problem(offsets->data(), static_cast<std::size_t>(count), b.shape(0));
  if (!problem.empty()) throw py::value_error("scan: " + problem);
  e.sequences = count - 1;
  e.offsets = offsets->data();
  return e;
}

template <typename T>
py::array scan(const py::array& a, const py::array& b, const std::optional<py::array>& initial, const recblr::Extent& e) {
  recblr::ScanForward<T> work;
  work.extent = e;
  const recblr::View<T> va = view<T>("a", a);
  work.a = {va.data, va.sequence, va.time, va.channel};
  const recblr::View<T> vb = view<T>("b", b);
  work.b = {vb.data, vb.sequence, vb.time, vb.channel};
  if (initial) {
    const recblr::View<T> vi = view<T>("initial", *initial);
    work.initial = {vi.data, vi.time, 0, vi.channel};
  }
  py::array_t<T> h(std::vector<py::ssize_t>(b.shape(), b.shape() + b.ndim()));
  work.h = view<T>("h", h);
  {
    const py::gil_scoped_release nogil;
    recblr::scan_forward(work, 0, e.units());
  }
  return h;
}

py::array scan_any(const py::array& a, const py::array& b, const std::optional<py::array>& initial,
                   const std::optional<py::array>& offsets, bool reverse) {
  const bool is_float = b.dtype().equal(py::dtype::of<float>());
  if (!is_float && !b.dtype().equal(py::dtype::of<double>())) throw py::value_error("scan: b must be float32 or float64, but is " + dtype(b));
  if (b.ndim() != 2 && b.ndim() != 3) throw py::value_error("scan: b must be (B, T, C), or (T, C), but has shape " + shape(b));
  if (shape(a) != shape(b)) throw py::value_error("scan: a must have b's shape " + shape(b) + ", but has " + shape(a));
  if (!a.dtype().equal(b.dtype()))
    throw py::value_error("scan: a must have b's dtype " + dtype(b) + ", but has " + dtype(a));
  const std::optional<Offsets> boundaries = checked(offsets, b);
  const recblr::Extent e = extent(b, boundaries, reverse);
  if (initial) {
    if (initial->ndim() != 2 || initial->shape(0) != e.sequences || initial->shape(1) != e.channels)
      throw py::value_error("scan: initial must have shape (" + std::to_string(e.sequences) + ", " + std::to_string(e.channels) +
                            "), a state a sequence, but has " + shape(*initial));
    if (!initial->dtype().equal(b.dtype()))
      throw py::value_error("scan: initial must be " + dtype(b) + ", but is " + dtype(*initial));
  }
  return is_float ? scan<float>(a, b, initial, e) : scan<double>(a, b, initial, e);
}

constexpr const char* kScanDoc = R"(h[t] = a[t] * h[t-1] + b[t] along the second-to-last axis of NumPy arrays.

a, b: (B, T, C), or (T, C), or packed (N, C) with offsets; float32 or float64, any strides.
initial: the state before the first step, (B, C), or (S, C) packed; zeros where absent.
offsets: (S + 1,) int64 or int32, from 0 to N; sequence s owns rows offsets[s] to offsets[s + 1].
reverse: time runs from the last row to the first.
Returns a new contiguous array of b's shape and dtype.  Raises ValueError on anything else.)";

}  // namespace

PYBIND11_MODULE(_core, m, py::mod_gil_not_used()) {
  m.doc() = "recblr's kernels on NumPy arrays, and what this build and this machine are";
  if (const char* error = recblr::isa_error()) throw py::import_error(error);
  m.def("scan", &scan_any, kScanDoc, "a"_a, "b"_a, "initial"_a = py::none(), "offsets"_a = py::none(), "reverse"_a = false);
  m.def("build_info", [] {
    py::dict info;
    info["version"] = RECBLR_VERSION;
    info["commit"] = RECBLR_COMMIT;
    info["compiler"] = RECBLR_COMPILER;
    info["torch_abi"] = RECBLR_TORCH_ABI;
    info["isa"] = recblr::isa_name(recblr::isa());
    info["isa_available"] = recblr::isa_available();
    return info;
  }, "What this build is and which instruction set it runs on this machine.");
}
