// Shared by the tests of the kernels: numbers of every element type, converted to double precision and back.
#pragma once
#include <cmath>
#include <complex>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "core/elements.h"

namespace recblr_test {

// Whether a test tries every case, as in `make sanitize` and `make mutants`, or only some cases, as in `make test`.
inline bool thorough() {
  static const bool all = std::getenv("RECBLR_THOROUGH") != nullptr;
  return all;
}

using Exact = std::complex<double>;

inline float bits_to_float(std::uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

inline Exact exact(float x) { return x; }
inline Exact exact(double x) { return x; }
inline Exact exact(recblr::Bfloat16 x) { return bits_to_float(std::uint32_t{x.bits} << 16); }
inline Exact exact(recblr::Float16 x) {
  const int exponent = x.bits >> 10 & 31, fraction = x.bits & 1023;
  const double magnitude = exponent == 31 ? (fraction ? NAN : INFINITY)
                           : exponent     ? std::ldexp(1024 + fraction, exponent - 25)
                                          : std::ldexp(fraction, -24);
  return x.bits & 0x8000 ? -magnitude : magnitude;
}
template <typename T>
Exact exact(recblr::Complex<T> x) {
  return {x.re, x.im};
}

// A number of type T near x.  For the 16-bit types, extra bits are cut off, and |x| must be below 16.
template <typename T>
struct Near {
  static T to(Exact x) { return static_cast<T>(x.real()); }
};
template <>
struct Near<recblr::Bfloat16> {
  static recblr::Bfloat16 to(Exact x) {
    const float f = static_cast<float>(x.real());
    std::uint32_t bits;
    std::memcpy(&bits, &f, sizeof bits);
    return {static_cast<std::uint16_t>(bits >> 16)};
  }
};
template <>
struct Near<recblr::Float16> {
  static recblr::Float16 to(Exact x) {
    int exponent = 0;
    const double fraction = std::frexp(std::fabs(x.real()), &exponent);  // 0.5 .. 1
    const bool normal = exponent > -14;
    const int bits = normal ? (exponent + 14) << 10 | (static_cast<int>(std::ldexp(fraction, 11)) & 1023)
                            : static_cast<int>(std::ldexp(std::fabs(x.real()), 24));
    return {static_cast<std::uint16_t>(bits | (x.real() < 0 ? 0x8000 : 0))};
  }
};
template <typename T>
struct Near<recblr::Complex<T>> {
  static recblr::Complex<T> to(Exact x) { return {static_cast<T>(x.real()), static_cast<T>(x.imag())}; }
};

}  // namespace recblr_test
