// The scan kernels against a plain double-precision loop: widths around every block size, packed and
// padded, both directions, with and without an initial state, contiguous and strided.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

#include "isa.h"
#include "scan.h"

namespace {

using recblr::Extent;
using recblr::View;

int failures = 0;

struct Case {
  std::int64_t sequences, length, channels;
  bool packed, reverse, initial, channel_first;
};

template <typename T>
struct Problem {
  Case c;
  std::vector<std::int64_t> offsets{0};
  std::int64_t rows = 0;
  std::vector<T> a, b, dh, initial;

  Problem(const Case& c, std::mt19937& random) : c(c) {
    std::uniform_int_distribution<std::int64_t> length(0, 2 * c.length);
    for (std::int64_t s = 0; s < c.sequences; ++s) offsets.push_back(offsets.back() + (c.packed ? length(random) : c.length));
    rows = offsets.back();
    std::uniform_real_distribution<double> value(-1, 1);
    for (auto* v : {&a, &b, &dh}) {
      v->resize(static_cast<std::size_t>(rows * c.channels));
      for (T& x : *v) x = static_cast<T>(value(random));
    }
    initial.resize(static_cast<std::size_t>(c.sequences * c.channels));
    for (T& x : initial) x = static_cast<T>(value(random));
  }
  // Where (row, channel) lies: channels adjacent, or rows of all sequences adjacent.
  std::size_t at(std::int64_t row, std::int64_t k) const {
    return static_cast<std::size_t>(c.channel_first ? k * rows + row : row * c.channels + k);
  }
  template <typename U>
  View<U> view(U* data) const {
    const std::int64_t row = c.channel_first ? 1 : c.channels, channel = c.channel_first ? rows : 1;
    return {data, row * c.length, row, channel};
  }
  Extent extent() const { return {c.sequences, c.length, c.channels, c.packed ? offsets.data() : nullptr, c.reverse}; }
};

template <typename T>
void expect_close(const std::vector<T>& got, const std::vector<double>& want, const char* what, const Case& c) {
  const double tolerance = sizeof(T) == 4 ? 2e-5 : 1e-12;
  for (std::size_t i = 0; i < want.size(); ++i) {
    if (std::fabs(got[i] - want[i]) <= tolerance * (1 + std::fabs(want[i]))) continue;
    std::printf("%s[%zu] is %.9g, not %.9g (%lld x %lld x %lld packed %d reverse %d initial %d channel-first %d, %zu bytes)\n", what, i,
                static_cast<double>(got[i]), want[i], static_cast<long long>(c.sequences), static_cast<long long>(c.length),
                static_cast<long long>(c.channels), c.packed, c.reverse, c.initial, c.channel_first, sizeof(T));
    ++failures;
    return;
  }
}

template <typename T>
void check(const Case& c, std::mt19937& random) {
  const Problem<T> p(c, random);
  const std::size_t size = p.a.size(), states = p.initial.size();
  std::vector<double> h(size), da(size), db(size), dinitial(states);
  for (std::int64_t s = 0; s < c.sequences; ++s)
    for (std::int64_t k = 0; k < c.channels; ++k) {
      const std::int64_t first = p.offsets[static_cast<std::size_t>(s)], length = p.offsets[static_cast<std::size_t>(s) + 1] - first;
      const auto row = [&](std::int64_t t) { return p.at(first + (c.reverse ? length - 1 - t : t), k); };
      const std::size_t state = static_cast<std::size_t>(s * c.channels + k);
      const double start = c.initial ? p.initial[state] : 0;
      double value = start, g = 0, next_a = 0;
      for (std::int64_t t = 0; t < length; ++t) h[row(t)] = value = p.a[row(t)] * value + p.b[row(t)];
      for (std::int64_t t = length - 1; t >= 0; --t) {
        g = next_a * g + p.dh[row(t)];
        next_a = p.a[row(t)];
        db[row(t)] = g;
        da[row(t)] = g * (t > 0 ? h[row(t - 1)] : start);
      }
      dinitial[state] = next_a * g;
    }

  std::vector<T> got_h(size, T(NAN)), got_da(size, T(NAN)), got_db(size, T(NAN)), got_dinitial(states, T(NAN));
  const View<const T> initial{c.initial ? p.initial.data() : nullptr, c.channels, 0, 1};
  const recblr::ScanForward<T> forward{p.extent(), p.view(p.a.data()), p.view(p.b.data()), initial, p.view(got_h.data())};
  // In two ranges, as two threads would.
  const std::int64_t units = p.extent().units(), half = units / 2;
  recblr::scan_forward(forward, half, units);
  recblr::scan_forward(forward, 0, half);
  const View<const T> seen_h = {got_h.data(), forward.h.sequence, forward.h.time, forward.h.channel};
  const recblr::ScanBackward<T> backward{p.extent(), p.view(p.dh.data()), p.view(p.a.data()), seen_h, initial, p.view(got_da.data()),
                                         p.view(got_db.data()), View<T>{got_dinitial.data(), c.channels, 0, 1}};
  recblr::scan_backward(backward, half, units);
  recblr::scan_backward(backward, 0, half);
  expect_close(got_h, h, "h", c);
  expect_close(got_da, da, "da", c);
  expect_close(got_db, db, "db", c);
  expect_close(got_dinitial, dinitial, "dinitial", c);
}

}  // namespace

int main() {
  if (const char* error = recblr::isa_error()) {
    std::printf("skipped: %s\n", error);
    return 77;
  }
  std::mt19937 random(1);
  int cases = 0;
  for (std::int64_t channels : {1, 7, 8, 9, 63, 64, 65, 100, 130})
    for (std::int64_t length : {0, 1, 2, 17})
      for (std::int64_t sequences : {0, 1, 3})
        for (int bits = 0; bits < 16; ++bits) {
          const Case c{sequences, length, channels, bool(bits & 1), bool(bits & 2), bool(bits & 4), bool(bits & 8)};
          check<float>(c, random);
          check<double>(c, random);
          cases += 2;
        }
  std::printf("scan on %s: %d cases, %d failures\n", recblr::isa_name(recblr::isa()), cases, failures);
  return failures ? 1 : 0;
}
