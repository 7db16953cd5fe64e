// The kernels of the scan at the limits of shapes, strides and numbers: more sequences than the y axis of a grid holds,
// elements further apart than a 32-bit number can count, strides of 0, and products that overflow.  Also: the bits
// depend neither on layout nor on neighbours, and the right regime is chosen.
#include <sys/mman.h>

#include <limits>

#include "check.h"

#undef RECBLR_ELEMENT_TYPES
#define RECBLR_ELEMENT_TYPES(macro) macro(float)
#include "scan.cu"

namespace {

using namespace check;
using namespace recblr::cuda;
using recblr::Extent;
using recblr::ScanBackward;
using recblr::ScanForward;

void expect(bool holds, const char* what, int regime) {
  if (!holds) std::printf("%s (regime %d)\n", what, regime), ++failures;
}

// Runs both directions on all the arrays that they need.
void scan(const Extent& e, const DeviceOffsets& offsets, int regime, const View<const float>& a,
          const View<const float>& x, const View<const float>& h_in, const View<float>& h, const View<float>& da,
          const View<float>& db) {
  Scratch scratch;
  ScanForward<float> forward;
  forward.extent = e, forward.a = a, forward.b = x, forward.h = h;
  expect_launched(scan_forward(forward, offsets, scratch.launch(regime)));
  ScanBackward<float> backward;
  backward.extent = e, backward.a = a, backward.dh = x, backward.h = h_in, backward.da = da, backward.db = db;
  expect_launched(scan_backward(backward, offsets, scratch.launch(regime)));
}

void many_sequences(int regime) {
  const std::int64_t count = 70001;
  Array<float> a(count, 2, 1), x(count, 2, 1), h(count, 2, 1), da(count, 2, 1), db(count, 2, 1);
  a.fill([](auto, auto, auto) { return 0.5; });
  x.fill([](std::int64_t s, std::int64_t t, auto) { return static_cast<double>(t == 0 ? s : 1); });
  scan(Extent::padded(count, 2, 1), {}, regime, a, x, x, h, da, db);
  h.expect([](std::int64_t s, std::int64_t t, auto) { return t == 0 ? s : 1 + 0.5 * static_cast<double>(s); }, 1e-6,
           "many sequences: h");
  db.expect([](std::int64_t s, std::int64_t t, auto) { return t == 0 ? static_cast<double>(s) + 0.5 : 1; }, 1e-6,
            "many sequences: db");
  da.expect([](std::int64_t s, std::int64_t t, auto) { return t == 0 ? 0 : s; }, 1e-6, "many sequences: da");
}

// Memory of which only the touched pages exist.
class Sparse {
 public:
  explicit Sparse(std::size_t bytes)
      : bytes_(bytes),
        at_(mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)) {
    if (at_ == MAP_FAILED) std::printf("no address space\n"), std::exit(1);
  }
  ~Sparse() { munmap(at_, bytes_); }
  float* data() const { return static_cast<float*>(at_); }

 private:
  std::size_t bytes_;
  void* at_;
};

// Arrays of 2 x 70 x 4, with `apart` elements between neighbours along one axis.
void far_apart(int regime, int axis, bool packed) {
  const std::int64_t sequences = 2, length = 70, channels = 4, apart = (std::int64_t{1} << 32) + 4;
  View<float> strides{nullptr, length * channels, channels, 1};
  (axis == 0 ? strides.sequence : axis == 1 ? strides.time : strides.channel) = apart;
  if (axis == 1) strides.sequence = length * apart;
  if (axis == 2) strides.sequence = 4 * length, strides.time = 4;
  const std::int64_t last = strides.sequence + (length - 1) * strides.time + (channels - 1) * strides.channel;
  const auto bytes = static_cast<std::size_t>(last + 1) * sizeof(float);
  const Sparse a(bytes), x(bytes), h(bytes), da(bytes), db(bytes);
  const auto view = [&](const Sparse& memory) {
    return View<float>{memory.data(), strides.sequence, strides.time, strides.channel};
  };
  const auto at = [&](const Sparse& memory, std::int64_t s, std::int64_t t, std::int64_t c) -> float& {
    return memory.data()[s * strides.sequence + t * strides.time + c * strides.channel];
  };
  const auto read = [](const View<float>& v) { return View<const float>{v.data, v.sequence, v.time, v.channel}; };
  for (std::int64_t s = 0; s < sequences; ++s)
    for (std::int64_t t = 0; t < length; ++t)
      for (std::int64_t c = 0; c < channels; ++c) {
        at(a, s, t, c) = 0.5f + 0.1f * static_cast<float>(c);
        at(x, s, t, c) = static_cast<float>((7 * t + 3 * s + c) % 5) - 2;
      }
  const std::vector<std::int64_t> ends{0, length, 2 * length};
  const Offsets offsets(ends, 2 * length, true);
  const Extent e = extent_of(packed, sequences, packed ? 2 * length : length, channels);
  const DeviceOffsets device = packed ? DeviceOffsets(offsets) : DeviceOffsets{};
  scan(e, device, regime, read(view(a)), read(view(x)), read(view(x)), view(h), view(da), view(db));
  for (std::int64_t s = 0; s < sequences; ++s)
    for (std::int64_t c = 0; c < channels; ++c) {
      double state = 0, g = 0;
      bool right = true;
      const auto near = [&](float got, double want) {
        right = right && std::fabs(got - want) <= 1e-4 * (1 + std::fabs(want));
      };
      for (std::int64_t t = 0; t < length; ++t) near(at(h, s, t, c), state = at(a, s, t, c) * state + at(x, s, t, c));
      for (std::int64_t t = length - 1; t >= 0; --t) {
        near(at(db, s, t, c), g += at(x, s, t, c));
        near(at(da, s, t, c), t ? g * at(x, s, t - 1, c) : 0);
        g *= at(a, s, t, c);
      }
      expect(right, "elements that lie far apart in memory are confused with others", regime);
    }
}

// One number stands for an array, and one row stands for a sequence.
void stride_zero(int regime) {
  const std::int64_t sequences = 3, length = 150, channels = 20;
  Array<float> one(1, 1, 1), row(1, 1, channels), h(sequences, length, channels),
      da = Array<float>(sequences, length, channels), db(sequences, length, channels);
  one.fill([](auto, auto, auto) { return 0.75; });
  row.fill([](auto, auto, std::int64_t c) { return static_cast<double>(c) - 7; });
  scan(Extent::padded(sequences, length, channels), {}, regime, {one.data(), 0, 0, 0}, {row.data(), 0, 0, 1},
       {row.data(), 0, 0, 1}, h, da, db);
  const auto sum = [&](std::int64_t steps, std::int64_t c) {
    return 4 * (1 - std::pow(0.75, static_cast<double>(steps))) * (static_cast<double>(c) - 7);
  };
  h.expect([&](auto, std::int64_t t, std::int64_t c) { return sum(t + 1, c); }, 3e-5, "stride 0: h");
  db.expect([&](auto, std::int64_t t, std::int64_t c) { return sum(length - t, c); }, 3e-5, "stride 0: db");
  da.expect(
      [&](auto, std::int64_t t, std::int64_t c) { return t ? sum(length - t, c) * (static_cast<double>(c) - 7) : 0; },
      3e-5, "stride 0: da");
}

// A state of zero stays zero even if the product of its factors overflows.  This holds before any input, and after a
// factor of zero.
void overflow(int regime) {
  const std::int64_t length = 300, half = 150;
  Array<float> a(1, length, 4), x(1, length, 4), h(1, length, 4), da(1, length, 4), db(1, length, 4);
  a.fill([](auto, std::int64_t t, auto) { return t == half ? 0 : 0x1p33; });  // a product of four overflows
  x.fill([](auto, std::int64_t t, std::int64_t c) {
    return (c == 1 && t == half - 1) || (c == 2 && t == half + 1) ? 3 : 0;
  });
  scan(Extent::padded(1, length, 4), {}, regime, a, x, x, h, da, db);
  for (std::int64_t t = 0; t < length; ++t)
    for (std::int64_t c = 0; c < 4; ++c) {
      if (c != 2)
        expect(exact(h.at(0, t, c)) == (c == 1 && t == half - 1 ? 3.0 : 0.0), "h: a state of zero does not stay zero",
               regime);
      if (c == 1) continue;
      const double g = c == 2 && t == half + 1 ? 3 : c == 2 && t == half ? 3 * 0x1p33 : 0;
      expect(exact(db.at(0, t, c)) == g, "db: an adjoint of zero does not stay zero", regime);
    }
}

// The same numbers in another layout, or as one of many packed sequences, must give the same bits.
void same_bits(int regime, bool reverse) {
  const std::int64_t length = 333, channels = 24;
  std::mt19937 random(5);
  const auto results = [&](const Layout& layout, std::int64_t before, std::int64_t behind, bool packed) {
    const std::int64_t rows = before + length + behind;
    const auto array = [&] { return Array<float>(1, rows, channels, layout); };
    Array<float> a = array(), x = array(), h = array(), da = array(), db = array();
    const auto mixed = [](std::int64_t n) { return static_cast<double>(n * 2654435761 % 1000) / 1000; };
    a.fill([&](auto, std::int64_t t, std::int64_t c) { return mixed((t - before) * 31 + c + 50000); });
    x.fill([&](auto, std::int64_t t, std::int64_t c) { return mixed((t - before) * 17 + 5 * c + 70000) - 0.5; });
    const std::vector<std::int64_t> ends{0, before, before + length, rows};
    const Offsets offsets(ends, rows, false);
    Extent e = extent_of(packed, packed ? 3 : 1, rows, channels);
    e.reverse = reverse;
    scan(e, packed ? DeviceOffsets(offsets) : DeviceOffsets{}, regime, a, x, x, h, da, db);
    std::vector<double> all;
    for (const Array<float>* v : {&h, &da, &db})
      for (std::int64_t t = before; t < before + length; ++t)
        for (std::int64_t c = 0; c < channels; ++c) all.push_back(exact(v->at(0, t, c)).real());
    return all;
  };
  const std::vector<double> plain = results({}, 0, 0, false);
  expect(plain == results({true, 1, 0, 0}, 0, 0, false), "the layout with channels first changes the bits", regime);
  expect(plain == results({false, 1, 1, 0}, 0, 0, false), "an address changes the bits", regime);
  expect(plain == results({false, 2, 0, 0}, 0, 0, false), "a stride changes the bits", regime);
  // The number of all rows decides the length of segments.  Up to 2 x 333 rows it is the same.
  expect(plain == results({}, 0, 0, true), "packing changes the bits", regime);
  expect(plain == results({}, 45, 17, true), "neighbours change the bits", regime);
}

void choice() {
  const auto chosen = [](std::int64_t sequences, std::int64_t length, std::int64_t channels, std::size_t element,
                         bool packed = false) {
    return chosen_regime(WorkShape(extent_of(packed, sequences, length, channels), packed, element), 132);
  };
  expect(chosen(2048, 200, 128, 4) == kRows, "many histories must be scanned by rows", 0);
  expect(chosen(2048, 50, 128, 2) == kRows, "many short histories must be scanned by rows", 0);
  expect(chosen(8, 16384, 1536, 4) == kWarps, "eight sequences of many channels must be scanned by warps", 0);
  expect(chosen(1, 262144, 512, 4) == kSplit, "one long sequence must be split", 0);
  expect(chosen(1, 32, 512, 4) == kRows, "a short sequence must be scanned by rows", 0);
  expect(chosen(2000, 2000 * 165, 128, 4, true) == kWarps, "long packed histories must be scanned by warps", 0);
  expect(chosen(20000, 20000 * 9, 128, 4, true) == kRows, "short packed histories must be scanned by rows", 0);
  expect(chosen(0, 0, 0, 4) == kRows && chosen(0, 9, 4, 4, true) == kRows, "empty work must be scanned by rows", 0);

  // The chosen or forced regime must be launched.  Split time takes four launches, and its bits differ from those of
  // the other regimes.
  Array<float> a(1, 2000, 20), x(1, 2000, 20), h(1, 2000, 20);
  std::mt19937 random(3);
  a.draw(random, 0.9), x.draw(random, 0.9);
  ScanForward<float> w;
  w.extent = Extent::padded(1, 2000, 20), w.a = a, w.b = x, w.h = h;
  Scratch scratch;
  for (int regime : {0, 1, 2, 3}) {
    const Launch to = scratch.launch(regime);
    const int taken = chosen_regime(w, DeviceOffsets{}, to);
    expect(taken == (regime ? regime : kSplit), "a forced regime was not chosen", regime);
    const std::int64_t before = cuda_on_host::machine.launches;
    expect_launched(scan_forward(w, DeviceOffsets{}, to));
    expect(cuda_on_host::machine.launches - before == (taken == kSplit ? 4 : 1), "the chosen regime did not run",
           regime);
  }
}

// Indices of blocks and threads need 64 bits.
void indices() {
  blockIdx.x = 0x7ffffffe, blockDim.x = 1024, gridDim.x = 0x7fffffff, threadIdx.x = 1023;
  expect(block_index() == 0x7ffffffe, "block_index", 0);
  expect(thread_index() == std::int64_t{0x7ffffffe} * 1024 + 1023, "thread_index", 0);
  expect(thread_count() == std::int64_t{0x7fffffff} * 1024, "thread_count", 0);
}

}  // namespace

int main() {
#if defined(RECBLR_REDUCED)
  for (int regime : {1, 2, 3}) overflow(regime);
  indices();
  return failures ? 1 : 0;
#endif
  for (int regime : {1, 2, 3}) {
    many_sequences(regime), stride_zero(regime), overflow(regime);
    for (int axis : {0, 1, 2}) far_apart(regime, axis, false);
    far_apart(regime, 1, true);
    for (bool reverse : {false, true}) same_bits(regime, reverse);
  }
  choice(), indices();
  std::printf("limits of the scan on the host: %d failures\n", failures);
  return failures ? 1 : 0;
}
