// Runs the kernels of the unit on the host and compares them with the recurrence and its chain rule in double
// precision: every regime and element type, packed and padded, with and without each argument, in three orders of
// threads.
#include <limits>

#include "check.h"

#if defined(RECBLR_REDUCED)  // mutants.py
#undef RECBLR_REAL_TYPES
#define RECBLR_REAL_TYPES(macro) macro(float)
#endif
#include "bdlru.cu"

namespace {

using namespace check;
using recblr::Extent;
using recblr::kStateRows;

struct Case {
  std::int64_t sequences, length, channels;
  bool packed, gated, scaled, states, given;  // given: whether dy is given
  Layout layout;
  int regime, multiprocessors;
};

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

// The tolerance.  For 16-bit outputs it covers products of a few errors: 2^-12 of the coarse sigmoid and a relative
// 2^-9 of rounding.
template <typename T>
constexpr double kClose = sizeof(T) == 2   ? 8e-3
                          : sizeof(T) == 4 ? 1e-5
                                           : 1e-11;
// The tolerance of sums over rows or channels of values computed from elements T.
template <typename T>
constexpr double kCloseSum = sizeof(T) == 2   ? 8e-3
                             : sizeof(T) == 4 ? 1e-5
                                              : 1e-11;

// The error of a sum is measured against the sizes of its terms, even if the terms cancel.
// got: (sequences, 1, width), the others in that order.
template <typename T, typename A>
void expect_sums(const Array<A>& got, std::int64_t width, const std::vector<double>& want,
                 const std::vector<double>& terms, const char* what) {
  for (std::size_t n = 0; n < want.size(); ++n) {
    const std::int64_t at = static_cast<std::int64_t>(n);
    const double is = exact(got.at(at / width, 0, at % width)).real();
    if (std::fabs(is - want[n]) <= kCloseSum<T> * (0.2 + terms[n])) continue;
    std::printf("%s: number %zu is %.9g, not %.9g, from %.9g\n", what, n, is, want[n], terms[n]);
    ++failures;
    return;
  }
}

template <typename T>
void check_case(const Case& c, std::mt19937& random) {
  using A = Accumulate<T>;
  cuda_on_host::machine.multiprocessors = c.multiprocessors;
  std::int64_t rows = c.sequences * c.length;
  std::vector<std::int64_t> first;
  if (c.packed) first = draw_offsets(c.sequences, c.length, random, rows);
  const Offsets offsets(first, rows, random() % 2);
  const std::int64_t planes = c.packed ? 1 : c.sequences, length = c.packed ? rows : c.length, width = c.channels;
  const std::int64_t kept = (rows + kStateRows - 1) / kStateRows;
  const auto array = [&](std::int64_t channels) { return Array<T>(planes, length, channels, c.layout); };
  const auto state = [&] { return Array<A>(c.sequences, 1, width); };
  Array<T> x = array(width), gates = array(2 * width), z = array(width), dy = array(width);
  Array<A> initial = state(), dfinal = state(), decay(1, 1, width), scale(planes, length, 1, {false, 3, 0, 0});
  x.draw(random, 2), gates.draw(random, 4), z.draw(random, 3), dy.draw(random, 1);
  initial.draw(random, 1), dfinal.draw(random, 1);
  // Some states live for thousands of steps, others decay at once; some have no decay at all.
  std::uniform_real_distribution<double> power(-8, 1), unit(0, 1.5);
  decay.fill([&](auto, auto, auto) { return random() % 9 ? std::exp(power(random)) : 0; });
  scale.fill([&](auto, auto, auto) { return random() % 5 ? unit(random) : 0; });

  // The expected values.  Rows that no sequence covers stay zero.
  const auto index = [&](std::int64_t row, std::int64_t k) { return static_cast<std::size_t>(row * width + k); };
  std::vector<double> y(static_cast<std::size_t>(rows * width)), dx = y, dr = y, di = y, dz = y;
  std::vector<double> final(static_cast<std::size_t>(c.sequences * width)), dinitial = final,
                                                                            ddecay(static_cast<std::size_t>(width));
  std::vector<double> states(static_cast<std::size_t>(kept * width)), dscale(static_cast<std::size_t>(rows));
  std::vector<double> decay_terms = ddecay, scale_terms = dscale,
                      initial_terms = dinitial;  // sums of the magnitudes of the terms
  std::vector<bool> has_state(static_cast<std::size_t>(kept));
  for (std::int64_t s = 0; s < c.sequences; ++s) {
    const auto at = static_cast<std::size_t>(s);
    const std::int64_t begin = c.packed ? offsets.trusted[at] : s * c.length,
                       end = c.packed ? offsets.trusted[at + 1] : begin + c.length;
    for (std::int64_t k = 0; k < width; ++k) {
      const auto read = [&](const auto& from, std::int64_t row, std::int64_t channel) {
        return exact(c.packed ? from.at(0, row, channel) : from.at(s, row - begin, channel)).real();
      };
      const double lambda = exact(decay.at(0, 0, k)).real();
      std::vector<double> h{c.states ? exact(initial.at(s, 0, k)).real() : 0};
      for (std::int64_t row = begin; row < end; ++row) {
        if (row % kStateRows == 0) {
          states[index(row / kStateRows, k)] = h.back();
          has_state[static_cast<std::size_t>(row / kStateRows)] = true;
        }
        const double u = lambda * sigmoid(read(gates, row, k)) * (c.scaled ? read(scale, row, 0) : 1);
        h.push_back(std::exp(-u) * h.back() +
                    std::sqrt(-std::expm1(-2 * u)) * sigmoid(read(gates, row, width + k)) * read(x, row, k));
        const double before = c.gated ? read(z, row, k) : 0;
        y[index(row, k)] = h.back() * (c.gated ? before * sigmoid(before) : 1);
      }
      final[index(s, k)] = h.back();
      double carried = c.states ? exact(dfinal.at(s, 0, k)).real() : 0, carried_terms = std::fabs(carried);
      for (std::int64_t row = end - 1; row >= begin; --row) {
        const double previous = h[static_cast<std::size_t>(row - begin)],
                     now = h[static_cast<std::size_t>(row - begin + 1)];
        const double by = c.scaled ? read(scale, row, 0) : 1, r = sigmoid(read(gates, row, k)),
                     i = sigmoid(read(gates, row, width + k));
        const double u = lambda * r * by, alpha = std::exp(-u), beta = std::sqrt(-std::expm1(-2 * u)),
                     input = read(x, row, k);
        double dh = c.given ? read(dy, row, k) : 0;
        if (c.gated) {
          const double before = read(z, row, k), sigma = sigmoid(before);
          dz[index(row, k)] = dh * now * (sigma + before * sigma * (1 - sigma));
          dh *= before * sigma;
        }
        const double g = carried + dh;
        const double du = u > 0 ? g * (std::exp(-2 * u) / beta * i * input - alpha * previous) : 0;
        dx[index(row, k)] = g * beta * i;
        di[index(row, k)] = g * beta * input * i * (1 - i);
        dr[index(row, k)] = du * lambda * by * r * (1 - r);
        // The sizes that the two terms of du can have.  The error of du is relative to these sizes, because du is their
        // difference.  The error of i is relative to 1.
        const double terms =
            u > 0 ? std::fabs(g) * (std::exp(-2 * u) / beta * std::fabs(input) + alpha * std::fabs(previous)) : 0;
        ddecay[static_cast<std::size_t>(k)] += du * r * by, decay_terms[static_cast<std::size_t>(k)] += terms * r * by;
        dscale[static_cast<std::size_t>(row)] += du * r * lambda,
            scale_terms[static_cast<std::size_t>(row)] += terms * r * lambda;
        carried = alpha * g, carried_terms = alpha * (carried_terms + std::fabs(dh));
      }
      dinitial[index(s, k)] = carried;
      // Held as closely as a value that is no sum; only the rounding of the terms is added, which may cancel.
      const double rounding = 8 * std::numeric_limits<A>::epsilon() / kCloseSum<T>;
      initial_terms[index(s, k)] = 0.8 + std::fabs(carried) + rounding * carried_terms;
    }
  }
  const Extent e = extent_of(c.packed, c.sequences, length, width);
  const recblr::cuda::DeviceOffsets device =
      c.packed ? recblr::cuda::DeviceOffsets(offsets) : recblr::cuda::DeviceOffsets{};
  recblr::BdlruInputs<T> in{e, x, gates, {}, decay.data(), {}, {}};
  if (c.gated) in.z = z;
  if (c.scaled) in.scale = scale;
  if (c.states) in.initial = initial;
  const auto wanted = [&](const std::vector<double>& v) {
    return [&, length](std::int64_t s, std::int64_t t, std::int64_t k) { return Exact(v[index(s * length + t, k)]); };
  };
  const auto wanted_state = [&](const std::vector<double>& v) {
    return [&](std::int64_t s, std::int64_t, std::int64_t k) { return Exact(v[index(s, k)]); };
  };
  std::vector<Array<T>> results;
  in_orders([&] {
    Array<T> got_y = array(width), got_dx = array(width), got_dgates = array(2 * width), got_dz = array(width);
    Array<A> got_final = state(), got_dinitial = state(), got_states(1, kept, width), got_dscale(1, 1, rows);
    Array<double> got_ddecay(1, 1, width);
    Scratch scratch;
    const recblr::BdlruForward<T> forward{in, got_y, got_final.data(), got_states.data()};
    expect_launched(recblr::cuda::bdlru_forward(forward, device, scratch.launch(c.regime)));
    const recblr::BdlruBackward<T> backward{in,
                                            c.given ? View<const T>(dy) : View<const T>{},
                                            c.states ? View<const A>(dfinal) : View<const A>{},
                                            got_states.data(),
                                            got_dx,
                                            got_dgates,
                                            c.gated ? View<T>(got_dz) : View<T>{},
                                            got_dinitial.data(),
                                            c.scaled ? got_dscale.data() : nullptr,
                                            got_ddecay.data()};
    expect_launched(recblr::cuda::bdlru_backward(backward, device, scratch.launch(c.regime)));

    char what[240];
    const auto name = [&](const char* array) {
      std::snprintf(what, sizeof what,
                    "%s (regime %d, %lld x %lld x %lld, packed %d, gated %d, scaled %d, states %d, dy %d, shift %lld, "
                    "%d multiprocessors, %zu bytes)",
                    array, c.regime, static_cast<long long>(c.sequences), static_cast<long long>(c.length),
                    static_cast<long long>(width), c.packed, c.gated, c.scaled, c.states, c.given,
                    static_cast<long long>(c.layout.shift), c.multiprocessors, sizeof(T));
      return what;
    };
    got_y.expect(wanted(y), kClose<T>, name("y"));
    got_final.expect(wanted_state(final), kCloseSum<T>, name("final"));
    for (std::int64_t n = 0; n < kept; ++n)
      for (std::int64_t k = 0; k < width && !has_state[static_cast<std::size_t>(n)]; ++k) got_states.at(0, n, k) = 0;
    got_states.expect(wanted(states), kCloseSum<T>, name("states"));
    got_dx.expect(wanted(dx), kClose<T>, name("dx"));
    got_dgates.expect(
        [&](std::int64_t s, std::int64_t t, std::int64_t k) {
          return Exact(k < width ? dr[index(s * length + t, k)] : di[index(s * length + t, k - width)]);
        },
        kClose<T>, name("dgates"));
    if (c.gated) got_dz.expect(wanted(dz), kClose<T>, name("dz"));
    expect_sums<T>(got_dinitial, width, dinitial, initial_terms, name("dinitial"));
    expect_sums<T>(got_ddecay, width, ddecay, decay_terms, name("ddecay"));
    if (c.scaled) expect_sums<T>(got_dscale, rows, dscale, scale_terms, name("dscale"));
    results.push_back(std::move(got_y)), results.push_back(std::move(got_dx)), results.push_back(std::move(got_dgates));
  });
  for (std::size_t i = 3; i < results.size(); ++i)
    if (!results[i].same_bits(results[i % 3])) std::printf("the order of threads changes the bits\n"), ++failures;
}

template <typename T>
void check_addresses(int regime, bool packed, int multiprocessors) {
  using A = Accumulate<T>;
  cuda_on_host::machine.multiprocessors = multiprocessors;
  const std::int64_t sequences = 2, length = 150, width = 40, rows = sequences * length;
  const std::int64_t planes = packed ? 1 : sequences, steps = packed ? rows : length;
  const std::int64_t kept = (rows + kStateRows - 1) / kStateRows;
  const Offsets offsets({0, 101, rows}, rows, true);
  recblr::cuda::DeviceOffsets device;
  if (packed) device = offsets;
  const auto run = [&](const std::vector<Layout>& layouts) {
    const auto array = [&](std::size_t n, std::int64_t channels) {
      return Array<T>(planes, steps, channels, layouts[n]);
    };
    const auto state = [&](std::size_t n) { return Array<A>(sequences, 1, width, layouts[n]); };
    const auto dense = [&](auto element, std::size_t n, std::int64_t count, std::int64_t channels) {
      return Array<decltype(element)>(1, count, channels, {false, 1, layouts[n].shift, 0});
    };
    Array<T> x = array(0, width), gates = array(1, 2 * width), z = array(2, width), dy = array(3, width);
    Array<T> y = array(4, width), dx = array(5, width), dgates = array(6, 2 * width), dz = array(7, width);
    Array<A> scale(planes, steps, 1, layouts[8]), initial = state(9), dfinal = state(10);
    Array<A> decay = dense(A(), 11, 1, width), states = dense(A(), 12, kept, width), dscale = dense(A(), 13, rows, 1);
    Array<A> final = dense(A(), 14, sequences, width), dinitial = dense(A(), 15, sequences, width);
    Array<double> ddecay = dense(double(), 16, 1, width);
    std::mt19937 random(7);
    for (Array<T>* a : {&x, &gates, &z, &dy}) a->draw(random, 2);
    for (Array<A>* a : {&initial, &dfinal}) a->draw(random, 1);
    std::uniform_real_distribution<double> positive(0.01, 1);
    for (Array<A>* a : {&scale, &decay}) a->fill([&](auto, auto, auto) { return positive(random); });
    const Extent e = extent_of(packed, sequences, steps, width);
    const recblr::BdlruInputs<T> in{e, x, gates, z, decay.data(), scale, initial};
    Scratch scratch;
    const recblr::BdlruForward<T> forward{in, y, final.data(), states.data()};
    expect_launched(recblr::cuda::bdlru_forward(forward, device, scratch.launch(regime)));
    const recblr::BdlruBackward<T> backward{in,     dy, dfinal,          states.data(), dx,
                                            dgates, dz, dinitial.data(), dscale.data(), ddecay.data()};
    expect_launched(recblr::cuda::bdlru_backward(backward, device, scratch.launch(regime)));
    std::vector<Exact> all;
    for (const Array<T>* a : {&y, &dx, &dgates, &dz}) a->append_to(all);
    for (const Array<A>* a : {&final, &states, &dinitial, &dscale}) a->append_to(all);
    ddecay.append_to(all);
    return all;
  };
  char what[100];
  std::snprintf(what, sizeof what, "regime %d, packed %d, %d multiprocessors, %zu bytes", regime, packed,
                multiprocessors, sizeof(T));
  expect_same_bits_everywhere(17, run, what);
}

}  // namespace

// Of the combinations of arguments, one in kShare is tried, drawn anew for each shape.
#if defined(RECBLR_REDUCED)
constexpr int kShare = 7, kShortShare = 7;
#elif defined(__SANITIZE_ADDRESS__)
constexpr int kShare = 5, kShortShare = 15;
#else
constexpr int kShare = 2, kShortShare = 7;
#endif

int main(int argc, char** argv) {
  std::mt19937 random(argc > 1 ? static_cast<unsigned>(std::atoi(argv[1])) : 1);
  const Layout layouts[] = {{}, {}, {false, 1, 1, 0}, {false, 1, 0, 8}, {false, 1, 2, 2}, {false, 1, 4, 4}};
  const std::int64_t channels[] = {1, 6, 32, 40, 64, 72, 0};
  const int share = thorough() ? kShare : kShortShare;
  int cases = 0;
  for (int regime : {1, 2, 3}) {
#if defined(RECBLR_REDUCED)
    if (regime == 2) check_addresses<float>(regime, true, 1);
    if (failures) return 1;
#else
    for (bool packed : {false, true})
      for (int multiprocessors : {1, 132}) {
        if (!thorough() && (multiprocessors == 1) != packed) continue;
#define RECBLR_CHECK_ADDRESSES(T) check_addresses<T>(regime, packed, multiprocessors);
        RECBLR_REAL_TYPES(RECBLR_CHECK_ADDRESSES)
      }
#endif
    // No rows, but more blocks of channels than one stage of a sum adds up.
    check_case<float>({0, 9, 2112, false, true, true, true, true, {}, regime, 132}, random), ++cases;
    for (std::int64_t sequences : {0, 1, 3})
      for (std::int64_t length : {0, 1, 9, 45, 290})
        for (int bits = static_cast<int>(random() % share); bits < 32; bits += share) {
          const auto one = [&](auto element) {
            const Case c{sequences,
                         length,
                         channels[random() % 7],
                         bool(bits & 1),
                         bool(bits & 2),
                         bool(bits & 4),
                         bool(bits & 8),
                         bool(bits & 16),
                         layouts[random() % 6],
                         regime,
                         random() % 2 ? 132 : 1};
            check_case<decltype(element)>(c, random), ++cases;
          };
#define RECBLR_CHECK(T) one(T());
          RECBLR_REAL_TYPES(RECBLR_CHECK)
#if defined(RECBLR_REDUCED)
          if (failures) return 1;
#endif
        }
  }
  std::printf("bdlru on the host: %d cases, %lld launches, %d failures\n", cases,
              static_cast<long long>(cuda_on_host::machine.launches), failures);
  return failures ? 1 : 0;
}
