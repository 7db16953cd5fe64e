// Compares the scan kernels with a plain loop in double precision: every element type; widths around every block size;
// packed and padded; both directions; with and without states; contiguous, channel first and neither; short sequences,
// and sequences so long that time is split.
#include <cmath>
#include <cstdio>
#include <random>
#include <vector>

#include "numbers.h"
#include "core/scan.h"
#include "core/time_split.h"

namespace {

using recblr::Accumulate;
using recblr::Extent;
using recblr::View;
using recblr_test::exact;
using recblr_test::Exact;
using recblr_test::Near;
using recblr_test::thorough;

int failures = 0, splits = 0;

struct Case {
  std::int64_t sequences, length, channels;
  bool packed, reverse, states;
  int layout;  // 0: channels adjacent, 1: rows adjacent (channel first), 2: neither
};

template <typename T>
constexpr double kTolerance = sizeof(T) == 2                                                            ? 1e-2
                              : std::is_same_v<T, double> || std::is_same_v<T, recblr::Complex<double>> ? 1e-11
                                                                                                        : 3e-5;

template <typename T>
struct Problem {
  Case c;
  std::vector<std::int64_t> offsets{0};
  std::int64_t rows = 0;
  std::vector<T> a, b, dh;
  std::vector<Accumulate<T>> initial, dfinal;

  Problem(const Case& c, std::mt19937& random) : c(c) {
    std::uniform_int_distribution<std::int64_t> length(0, 2 * c.length);
    for (std::int64_t s = 0; s < c.sequences; ++s)
      offsets.push_back(offsets.back() + (c.packed ? length(random) : c.length));
    rows = offsets.back();
    std::uniform_real_distribution<double> value(-0.7, 0.7);
    const auto draw = [&](auto& v, std::size_t size) {
      using E = typename std::decay_t<decltype(v)>::value_type;
      v.resize(size);
      for (E& x : v) {
        const double re = value(random);
        x = Near<E>::to({re, value(random)});
      }
    };
    for (auto* v : {&a, &b, &dh}) draw(*v, size());
    for (auto* v : {&initial, &dfinal}) draw(*v, static_cast<std::size_t>(c.sequences * c.channels));
  }
  std::int64_t gap() const { return c.layout == 2 ? 2 : 1; }
  std::size_t size() const { return static_cast<std::size_t>(gap() * rows * c.channels); }
  std::size_t at(std::int64_t row, std::int64_t k) const {
    return static_cast<std::size_t>(gap() * (c.layout ? k * rows + row : row * c.channels + k));
  }
  template <typename U>
  View<U> view(U* data) const {
    const std::int64_t row = gap() * (c.layout ? 1 : c.channels), channel = gap() * (c.layout ? rows : 1);
    return {data, row * c.length, row, channel};
  }
  Extent extent() const {
    Extent e = c.packed ? Extent::packed(c.sequences, rows, c.channels, offsets.data())
                        : Extent::padded(c.sequences, c.length, c.channels);
    e.reverse = c.reverse;
    return e;
  }
};

template <typename T>
void expect_close(const std::vector<T>& got, const std::vector<Exact>& want, double tolerance, const char* what,
                  const Case& c) {
  for (std::size_t i = 0; i < want.size(); ++i) {
    if (std::isnan(want[i].real())) continue;  // a gap between elements
    if (std::abs(exact(got[i]) - want[i]) <= tolerance * (1 + std::abs(want[i]))) continue;
    std::printf("%s[%zu] is %.9g, not %.9g (%lld x %lld x %lld packed %d reverse %d states %d layout %d, %zu bytes)\n",
                what, i, exact(got[i]).real(), want[i].real(), static_cast<long long>(c.sequences),
                static_cast<long long>(c.length), static_cast<long long>(c.channels), c.packed, c.reverse, c.states,
                c.layout, sizeof(T));
    ++failures;
    return;
  }
}

// Runs the work in `count` ranges, the last range first, as threads might.  Some ranges begin and end between the
// channels of one sequence.
struct Ranges {
  std::int64_t count;
  template <typename F>
  void operator()(std::int64_t units, std::int64_t, const F& f) const {
    for (std::int64_t i = count; i-- > 0;) f(i * units / count, (i + 1) * units / count);
  }
};

template <typename T>
bool same_bits(const std::vector<T>& x, const std::vector<T>& y) {
  return x.size() == y.size() && (x.empty() || std::memcmp(x.data(), y.data(), x.size() * sizeof(T)) == 0);
}

template <typename T>
void check(const Case& c, std::mt19937& random) {
  using A = Accumulate<T>;
  const Problem<T> p(c, random);
  const std::size_t size = p.size(), states = p.initial.size();
  const Exact gap{NAN, 0};
  std::vector<Exact> h(size, gap), da(size, gap), db(size, gap), final(states), dinitial(states);
  for (std::int64_t s = 0; s < c.sequences; ++s)
    for (std::int64_t k = 0; k < c.channels; ++k) {
      const std::int64_t first = p.offsets[static_cast<std::size_t>(s)],
                         length = p.offsets[static_cast<std::size_t>(s) + 1] - first;
      const auto row = [&](std::int64_t t) { return p.at(first + (c.reverse ? length - 1 - t : t), k); };
      const std::size_t state = static_cast<std::size_t>(s * c.channels + k);
      const Exact start = c.states ? exact(p.initial[state]) : 0;
      Exact value = start, carry = c.states ? exact(p.dfinal[state]) : 0;
      for (std::int64_t t = 0; t < length; ++t) h[row(t)] = value = exact(p.a[row(t)]) * value + exact(p.b[row(t)]);
      final[state] = value;
      for (std::int64_t t = length - 1; t >= 0; --t) {
        const Exact g = carry + exact(p.dh[row(t)]);
        db[row(t)] = g;
        da[row(t)] = g * std::conj(t > 0 ? h[row(t - 1)] : start);
        carry = std::conj(exact(p.a[row(t)])) * g;
      }
      dinitial[state] = carry;
    }

  const T hole = Near<T>::to(0.5);
  std::vector<T> got_h(size, hole), got_da(size, hole), got_db(size, hole);
  std::vector<A> got_final(states, Near<A>::to(0.5)), got_dinitial = got_final;
  const View<const A> none, initial{p.initial.data(), c.channels, 0, 1}, dfinal{p.dfinal.data(), c.channels, 0, 1};
  recblr::ScanForward<T> forward;
  forward.extent = p.extent();
  forward.a = p.view(p.a.data()), forward.b = p.view(p.b.data()), forward.h = p.view(got_h.data());
  forward.initial = c.states ? initial : none;
  forward.final = {got_final.data(), c.channels, 0, 1};
  recblr::run(forward, Ranges{2});
  recblr::ScanBackward<T> backward;
  backward.extent = p.extent();
  backward.dh = p.view(p.dh.data()), backward.a = p.view(p.a.data());
  backward.h = p.view(static_cast<const T*>(got_h.data()));
  backward.initial = c.states ? initial : none, backward.dfinal = c.states ? dfinal : none;
  backward.da = p.view(got_da.data()), backward.db = p.view(got_db.data());
  backward.dinitial = {got_dinitial.data(), c.channels, 0, 1};
  recblr::run(backward, Ranges{2});
  if (!recblr::TimeSplit(p.extent(), sizeof(T)).empty()) ++splits;
  const auto h_of_two = got_h, da_of_two = got_da, db_of_two = got_db;
  const auto final_of_two = got_final, dinitial_of_two = got_dinitial;
  for (std::int64_t count : {1, 3, 7}) {
    recblr::run(forward, Ranges{count});
    recblr::run(backward, Ranges{count});
    if (same_bits(got_h, h_of_two) && same_bits(got_da, da_of_two) && same_bits(got_db, db_of_two) &&
        same_bits(got_final, final_of_two) && same_bits(got_dinitial, dinitial_of_two))
      continue;
    std::printf("%lld ranges give other bits than two (%lld x %lld x %lld)\n", static_cast<long long>(count),
                static_cast<long long>(c.sequences), static_cast<long long>(c.length),
                static_cast<long long>(c.channels));
    ++failures;
  }
  expect_close(got_h, h, kTolerance<T>, "h", c);
  expect_close(got_final, final, kTolerance<A>, "final", c);
  expect_close(got_da, da, kTolerance<T>, "da", c);
  expect_close(got_db, db, kTolerance<T>, "db", c);
  expect_close(got_dinitial, dinitial, kTolerance<A>, "dinitial", c);
}

int check_all(const std::vector<std::int64_t>& sequences, const std::vector<std::int64_t>& lengths,
              const std::vector<std::int64_t>& channels, std::mt19937& random) {
  int cases = 0;
  for (std::int64_t s : sequences)
    for (std::int64_t t : lengths)
      for (std::int64_t n : channels)
        for (int layout : {0, 1, 2})
          for (int bits = thorough() ? 0 : static_cast<int>(random() % 3); bits < 8; bits += thorough() ? 1 : 3) {
            const Case c{s, t, n, bool(bits & 1), bool(bits & 2), bool(bits & 4), layout};
#define RECBLR_CHECK(T) check<T>(c, random), ++cases;
            RECBLR_ELEMENT_TYPES(RECBLR_CHECK)
          }
  return cases;
}

}  // namespace

int main() {
  if (const char* error = recblr::isa_error()) {
    std::printf("skipped: %s\n", error);
    return 77;
  }
  std::mt19937 random(1);
  int cases = check_all({0, 1, 3}, {0, 1, 2, 17}, {1, 7, 8, 9, 63, 64, 65, 130}, random);
  cases +=
      check_all({3}, {5}, {16, 24, 32, 127, 128, 129, 192, 255, 256, 257, 1100}, random);  // rows with several blocks
  if (splits) std::printf("a short sequence was split\n"), ++failures;
  cases += check_all({2}, {11000}, {3}, random);  // a float16 segment has 2730 steps
  cases += check_all({2}, {1100}, {70}, random);
  if (splits < cases / 100) std::printf("only %d cases were split\n", splits), ++failures;
  std::printf("scan on %s: %d cases, %d of them split in time, %d failures\n", recblr::isa_name(recblr::isa()), cases,
              splits, failures);
  return failures ? 1 : 0;
}
