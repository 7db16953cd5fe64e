// Compares the kernels' exp, expm1, sigmoid, softplus and roots with long double.  The largest error, in units in the
// last place, must not exceed its claim.  Every 1025th float is tried, positive and negative.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <vector>

#include "elementary_values.h"

namespace {

using recblr::ElementaryFunction;

struct Claim {
  const char* name;
  ElementaryFunction function;
  long double (*exact)(long double);
  float first, last;  // the range of arguments
  double units;       // the largest error, in units in the last place
};

long double exp_of(long double x) { return std::exp(x); }
long double expm1_of(long double x) { return std::expm1(x); }
long double sigmoid_of(long double x) { return 1 / (1 + std::exp(-x)); }
long double softplus_of(long double x) { return (x > 0 ? x : 0) + std::log1p(std::exp(-std::fabs(x))); }

// On machines with a fused multiply-add, errors grow with |x|, for |x| that gates do not reach in practice.
const Claim kClaims[] = {
    {"exp", ElementaryFunction::exp, exp_of, -10, 10, 1.4},
    {"exp", ElementaryFunction::exp, exp_of, -86.9f, 86.9f, 4.5},
    {"expm1", ElementaryFunction::expm1, expm1_of, -10, 10, 1.8},
    {"expm1", ElementaryFunction::expm1, expm1_of, -86.9f, 86.9f, 4.5},
    {"sigmoid", ElementaryFunction::sigmoid, sigmoid_of, -10, 10, 2.6},
    {"sigmoid", ElementaryFunction::sigmoid, sigmoid_of, -86.9f, 120, 5.5},
    {"softplus", ElementaryFunction::softplus, softplus_of, -10, 1e30f, 3.0},
    {"softplus", ElementaryFunction::softplus, softplus_of, -86.9f, 1e30f, 4.8},
    {"sqrt", ElementaryFunction::root, [](long double x) { return std::sqrt(x); }, 2e-30f, 1, 1.1},
    {"1/sqrt", ElementaryFunction::inverse_root, [](long double x) { return 1 / std::sqrt(x); }, 2e-30f, 1, 2.1},
};

std::vector<float> arguments(float first, float last) {
  std::vector<float> values;
  for (std::uint64_t bits = 0x5d; bits < (std::uint64_t{1} << 32); bits += 0x401) {
    const auto low = static_cast<std::uint32_t>(bits);
    float x;
    std::memcpy(&x, &low, sizeof x);
    if (x >= first && x <= last && std::fabs(x) > 1e-37f) values.push_back(x);
  }
  return values;
}

double units_off(float got, long double exact) {
  int exponent;
  std::frexp(exact, &exponent);
  return static_cast<double>(std::fabs(got - exact) / std::ldexp(1.0L, exponent - 24));
}

}  // namespace

int main() {
  if (const char* error = recblr::isa_error()) {
    std::printf("skipped: %s\n", error);
    return 77;
  }
  int failures = 0;
  for (const Claim& claim : kClaims) {
    const std::vector<float> in = arguments(claim.first, claim.last);
    std::vector<float> out(in.size());
    compute(recblr::Elementary{claim.function, in.data(), out.data()}, {0, static_cast<std::int64_t>(in.size())});
    double worst = 0;
    float at = 0;
    for (std::size_t i = 0; i < in.size(); ++i) {
      const double off = units_off(out[i], claim.exact(in[i]));
      if (!(off <= worst)) worst = off, at = in[i];
    }
    const bool holds = worst <= claim.units;
    failures += !holds;
    std::printf("%-8s in %g..%g on %s: %zu arguments, at most %.2f units in the last place off, at %.9g%s\n",
                claim.name, static_cast<double>(claim.first), static_cast<double>(claim.last),
                recblr::isa_name(recblr::isa()), in.size(), worst, static_cast<double>(at),
                holds ? "" : ": MORE THAN CLAIMED");
  }
  // NaN stays NaN, and results for arguments beyond the bounds are bounded.
  const float odd[] = {NAN, INFINITY, -INFINITY, 1000.0f, -1000.0f};
  float sigmoids[5];
  compute(recblr::Elementary{ElementaryFunction::sigmoid, odd, sigmoids}, {0, 5});
  const bool fine = std::isnan(sigmoids[0]) && sigmoids[1] == 1 && sigmoids[2] >= 0 && sigmoids[2] < 1e-37f &&
                    sigmoids[3] == 1 && sigmoids[4] == sigmoids[2];
  if (!fine) std::printf("sigmoid is wrong for NaN, infinities or large numbers\n"), ++failures;
  return failures ? 1 : 0;
}
