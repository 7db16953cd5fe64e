// Compares the elementary functions of the device and the formulas of the gates with long double.  The estimates of the
// hardware have their largest allowed errors.
#include "check.h"

#include "elementary.cuh"

namespace {

using namespace check;
using namespace recblr::cuda;

double worst(double got, long double want) {
  return static_cast<double>(std::fabs((static_cast<long double>(got) - want) / want));
}

struct Bound {
  const char* what;
  double most, found = 0;
  void see(double got, long double want) { found = std::fmax(found, std::isnan(got) ? INFINITY : worst(got, want)); }
  void report() const {
    const bool bad = !(found <= most);
    std::printf("%-28s relative error %.3g, at most %.3g%s\n", what, found, most, bad ? "  FAILED" : "");
    failures += bad;
  }
};

// Numbers from -range to range: evenly spaced ones, and powers of two down to 1e-30.
template <typename V, typename F>
void over(double range, const F& f) {
  for (int i = -20000; i <= 20000; ++i) f(static_cast<V>(range * i / 20000));
  for (double x = range; x > 1e-30; x *= 0.7) f(static_cast<V>(x)), f(static_cast<V>(-x));
}

template <typename V>
void check_type(const char* type, double most) {
  std::printf("%s\n", type);
  Bound exp{"exp", most}, expm1{"expm1", most}, logistic{"sigmoid", most}, root{"root", most},
      inverse{"1 / root", most}, reciprocals{"1 / x", most}, alpha{"alpha", 3 * most}, beta{"beta", most};
  over<V>(86, [&](V x) {
    const Exponentials<V> e = exponentials(x);
    exp.see(e.exp, std::exp(static_cast<long double>(x)));
    if (x != 0) expm1.see(e.expm1, std::expm1(static_cast<long double>(x)));
    logistic.see(sigmoid(x), 1 / (1 + std::exp(-static_cast<long double>(x))));
    if (x > 0) {
      root.see(roots(x).root, std::sqrt(static_cast<long double>(x)));
      inverse.see(roots(x).inverse, 1 / std::sqrt(static_cast<long double>(x)));
    }
    if (x != 0) reciprocals.see(reciprocal(x), 1 / static_cast<long double>(x));
    if (x > 0 && x < 10) {  // x as the decay; alpha multiplies the error of u by u
      const V before = V(0.3);
      const Factors<V> f = factors(before, x);
      const long double u = static_cast<long double>(x) / (1 + std::exp(-static_cast<long double>(before)));
      alpha.see(f.alpha, std::exp(-u));
      beta.see(f.beta, std::sqrt(-std::expm1(-2 * std::fmax(u, static_cast<long double>(kMinU)))));
    }
  });
  for (const Bound& b : {exp, expm1, logistic, root, inverse, reciprocals, alpha, beta}) b.report();
  const V infinity = static_cast<V>(INFINITY), nan = static_cast<V>(NAN);
  const bool ends = exponentials(-infinity).expm1 == -1 && std::fabs(sigmoid(infinity) - 1) < 2e-7 &&
                    sigmoid(-infinity) < 1e-37f && std::isnan(sigmoid(nan)) && std::isnan(exponentials(nan).expm1) &&
                    exponentials(V(0)).expm1 == 0;
  if (!ends) std::printf("a function is wrong at infinity, zero or NaN\n"), ++failures;
}

}  // namespace

int main() {
  for (unsigned seed = 1; seed <= 3; ++seed) {
    cuda_on_host::machine.seed = seed;
    check_type<float>("float", 1e-6);
    check_type<double>("double", 1e-14);
    double off = 0;
    over<float>(20, [&](float x) {
      off = std::fmax(off, std::fabs(coarse_sigmoid(x) - 1 / (1 + std::exp(-static_cast<double>(x)))));
    });
    std::printf("coarse sigmoid               absolute error %.3g, at most %.3g\n", off, 0x1.01p-12);
    failures += !(off <= 0x1.01p-12);
    Bound brief{"brief sigmoid", 2e-5};
    over<float>(86, [&](float x) { brief.see(brief_sigmoid(x), 1 / (1 + std::exp(-static_cast<long double>(x)))); });
    brief.report();
    const bool ends = brief_sigmoid(-INFINITY) == 0 && std::fabs(brief_sigmoid(INFINITY) - 1) < 2e-7 &&
                      std::isnan(brief_sigmoid(NAN));
    if (!ends) std::printf("brief sigmoid is wrong at infinity or NaN\n"), ++failures;
  }
  return failures ? 1 : 0;
}
