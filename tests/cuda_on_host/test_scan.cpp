// Runs the kernels of the scan on the host and compares them with a plain loop in double precision: every regime and
// element type, both directions, packed and padded, with and without states, every kind of layout, in three orders of
// threads.
#include "check.h"

#if defined(RECBLR_REDUCED)  // mutants.py
#undef RECBLR_ELEMENT_TYPES
#define RECBLR_ELEMENT_TYPES(macro) macro(float)
#endif
#include "scan.cu"

namespace {

using namespace check;
using recblr::Extent;

const Layout kLayouts[] = {
    {}, {false, 1, 1, 0}, {false, 1, 0, 8}, {true, 1, 0, 0}, {false, 2, 0, 0}, {false, 1, 4, 4}, {false, 1, 0, 1}};

struct Case {
  std::int64_t sequences, length, channels;
  bool packed, reverse, states;
  Layout layout;
  bool mixed;  // whether every array has its own layout instead
  bool final;  // whether final is requested
  int regime;
};

template <typename T>
void check_case(const Case& c, std::mt19937& random) {
  using A = Accumulate<T>;
  std::int64_t rows = c.sequences * c.length;
  std::vector<std::int64_t> first;
  if (c.packed) first = draw_offsets(c.sequences, c.length, random, rows);
  const Offsets offsets(first, rows, random() % 2);
  const std::int64_t planes = c.packed ? 1 : c.sequences, length = c.packed ? rows : c.length;
  Layout own[7];  // of a, b, dh, h, and of the outputs h, da, db
  for (Layout& l : own) l = c.mixed ? kLayouts[random() % 7] : c.layout;
  const auto array = [&](int n) { return Array<T>(planes, length, c.channels, own[n]); };
  const auto state = [&] { return Array<A>(c.sequences, 1, c.channels); };
  Array<T> a = array(0), b = array(1), dh = array(2), h_in = array(3);
  Array<A> initial = state(), dfinal = state();
  for (auto* x : {&a, &b, &dh, &h_in}) x->draw(random, 0.9);
  for (auto* x : {&initial, &dfinal}) x->draw(random, 0.9);

  // The expected values.  Rows that no sequence covers stay zero.
  const std::int64_t width = c.channels;
  const auto index = [&](std::int64_t row, std::int64_t k) { return static_cast<std::size_t>(row * width + k); };
  std::vector<Exact> h(static_cast<std::size_t>(rows * width)), da = h, db = h;
  std::vector<Exact> final(static_cast<std::size_t>(c.sequences * width)), dinitial = final;
  for (std::int64_t s = 0; s < c.sequences; ++s) {
    const auto at = static_cast<std::size_t>(s);
    const std::int64_t begin = c.packed ? offsets.trusted[at] : s * c.length,
                       end = c.packed ? offsets.trusted[at + 1] : begin + c.length;
    for (std::int64_t k = 0; k < width; ++k) {
      const auto row = [&](std::int64_t t) { return c.reverse ? end - 1 - t : begin + t; };
      const auto read = [&](const Array<T>& x, std::int64_t t) {
        return exact(c.packed ? x.at(0, row(t), k) : x.at(s, row(t) - begin, k));
      };
      const Exact start = c.states ? exact(initial.at(s, 0, k)) : 0;
      Exact value = start, carry = c.states ? exact(dfinal.at(s, 0, k)) : 0;
      for (std::int64_t t = 0; t < end - begin; ++t) h[index(row(t), k)] = value = read(a, t) * value + read(b, t);
      final[index(s, k)] = value;
      for (std::int64_t t = end - begin - 1; t >= 0; --t) {
        const Exact g = carry + read(dh, t);
        db[index(row(t), k)] = g;
        da[index(row(t), k)] = c.states || t > 0 ? g * std::conj(t > 0 ? read(h_in, t - 1) : start) : 0;
        carry = std::conj(read(a, t)) * g;
      }
      dinitial[index(s, k)] = carry;
    }
  }
  const auto wanted = [&](const std::vector<Exact>& v) {
    return [&](std::int64_t s, std::int64_t t, std::int64_t k) { return v[index(s * length + t, k)]; };
  };
  const auto wanted_state = [&](const std::vector<Exact>& v) {
    return [&](std::int64_t s, std::int64_t, std::int64_t k) { return v[index(s, k)]; };
  };

  Extent e = extent_of(c.packed, c.sequences, length, width);
  e.reverse = c.reverse;
  const recblr::cuda::DeviceOffsets device =
      c.packed ? recblr::cuda::DeviceOffsets(offsets) : recblr::cuda::DeviceOffsets{};
  const View<const A> none;
  std::vector<Array<T>> results;
  in_orders([&] {
    Array<T> got_h = array(4), got_da = array(5), got_db = array(6);
    Array<A> got_final = state(), got_dinitial = state();
    Scratch scratch;
    recblr::ScanForward<T> forward;
    forward.extent = e, forward.a = a, forward.b = b, forward.h = got_h;
    if (c.final) forward.final = got_final;
    forward.initial = c.states ? View<const A>(initial) : none;
    expect_launched(recblr::cuda::scan_forward(forward, device, scratch.launch(c.regime)));
    recblr::ScanBackward<T> backward;
    backward.extent = e, backward.dh = dh, backward.a = a, backward.h = h_in;
    backward.da = got_da, backward.db = got_db;
    if (c.final) backward.dinitial = got_dinitial;
    backward.initial = c.states ? View<const A>(initial) : none,
    backward.dfinal = c.states ? View<const A>(dfinal) : none;
    expect_launched(recblr::cuda::scan_backward(backward, device, scratch.launch(c.regime)));

    char what[200];
    const auto name = [&](const char* array) {
      std::snprintf(what, sizeof what,
                    "%s (regime %d, %lld x %lld x %lld, packed %d, reverse %d, states %d, channel first %d, gap %lld, "
                    "shift %lld, %zu bytes)",
                    array, c.regime, static_cast<long long>(c.sequences), static_cast<long long>(c.length),
                    static_cast<long long>(width), c.packed, c.reverse, c.states, c.layout.channel_first,
                    static_cast<long long>(c.layout.gap), static_cast<long long>(c.layout.shift), sizeof(T));
      return what;
    };
    got_h.expect(wanted(h), kTolerance<T>, name("h"));
    if (c.final) got_final.expect(wanted_state(final), kTolerance<A>, name("final"));
    got_da.expect(wanted(da), kTolerance<T>, name("da"));
    got_db.expect(wanted(db), kTolerance<T>, name("db"));
    if (c.final) got_dinitial.expect(wanted_state(dinitial), kTolerance<A>, name("dinitial"));
    results.push_back(std::move(got_h)), results.push_back(std::move(got_da));
  });
  for (std::size_t i = 2; i < results.size(); ++i)
    if (!results[i].same_bits(results[i % 2])) std::printf("the order of threads changes the bits\n"), ++failures;
}

template <typename T>
void check_addresses(int regime, bool packed, bool reverse) {
  using A = Accumulate<T>;
  const std::int64_t sequences = 2, length = 150, channels = 40, rows = sequences * length;
  const std::int64_t planes = packed ? 1 : sequences, steps = packed ? rows : length;
  const Offsets offsets({0, 101, rows}, rows, true);
  recblr::cuda::DeviceOffsets device;
  if (packed) device = offsets;
  const auto run = [&](const std::vector<Layout>& layouts) {
    const auto array = [&](std::size_t n) { return Array<T>(planes, steps, channels, layouts[n]); };
    const auto state = [&](std::size_t n) { return Array<A>(sequences, 1, channels, layouts[n]); };
    Array<T> a = array(0), b = array(1), dh = array(2), h = array(3), da = array(4), db = array(5);
    Array<A> initial = state(6), dfinal = state(7), final = state(8), dinitial = state(9);
    std::mt19937 random(7);
    for (Array<T>* x : {&a, &b, &dh}) x->draw(random, 0.9);
    for (Array<A>* x : {&initial, &dfinal}) x->draw(random, 0.9);
    Extent e = extent_of(packed, sequences, steps, channels);
    e.reverse = reverse;
    recblr::ScanForward<T> forward;
    forward.extent = e, forward.a = a, forward.b = b, forward.h = h, forward.initial = initial, forward.final = final;
    recblr::ScanBackward<T> backward;
    backward.extent = e, backward.a = a, backward.dh = dh, backward.h = h, backward.da = da, backward.db = db;
    backward.initial = initial, backward.dfinal = dfinal, backward.dinitial = dinitial;
    Scratch scratch;
    expect_launched(recblr::cuda::scan_forward(forward, device, scratch.launch(regime)));
    expect_launched(recblr::cuda::scan_backward(backward, device, scratch.launch(regime)));
    std::vector<Exact> all;
    h.append_to(all), da.append_to(all), db.append_to(all), final.append_to(all), dinitial.append_to(all);
    return all;
  };
  char what[100];
  std::snprintf(what, sizeof what, "regime %d, packed %d, reverse %d, %zu bytes", regime, packed, reverse, sizeof(T));
  expect_same_bits_everywhere(10, run, what);
}

}  // namespace

int main(int argc, char** argv) {
  std::mt19937 random(argc > 1 ? static_cast<unsigned>(std::atoi(argv[1])) : 1);
#if defined(RECBLR_REDUCED)
  const std::vector<std::int64_t> sequence_counts{1, 3}, lengths{0, 9, 139}, widths{1, 20};
#else
  const std::vector<std::int64_t> sequence_counts{0, 1, 3}, lengths{0, 1, 2, 9, 41, 139}, widths{1, 6, 8, 20, 72};
#endif
  int cases = 0;
  for (int regime : {1, 2, 3})
    for (std::int64_t sequences : sequence_counts)
      for (std::int64_t length : lengths)
        for (std::int64_t channels : widths)
          for (int bits = thorough() ? 0 : static_cast<int>(random() % 2); bits < 8; bits += thorough() ? 1 : 2) {
            const Layout& layout = kLayouts[random() % 7];
            const bool mixed = random() % 4 == 0, final = random() % 4 != 0;
            const Case c{sequences,      length, channels, bool(bits & 1), bool(bits & 2),
                         bool(bits & 4), layout, mixed,    final,          regime};
#define RECBLR_CHECK(T) check_case<T>(c, random), ++cases;
            RECBLR_ELEMENT_TYPES(RECBLR_CHECK)
#if defined(RECBLR_REDUCED)
            if (failures) return 1;
#endif
          }
  for (int regime : {1, 2, 3})
    for (bool packed : {false, true})
      for (bool reverse : {false, true}) {
#define RECBLR_CHECK_ADDRESSES(T) check_addresses<T>(regime, packed, reverse);
        RECBLR_ELEMENT_TYPES(RECBLR_CHECK_ADDRESSES)
      }
  std::printf("scan on the host: %d cases, %lld launches, %d failures\n", cases,
              static_cast<long long>(cuda_on_host::machine.launches), failures);
  return failures ? 1 : 0;
}
