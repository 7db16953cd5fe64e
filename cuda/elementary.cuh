// exp, expm1, roots, reciprocals and the sigmoid of single numbers on a device, and the gates' formulas on them.
//
// float: from the hardware's estimates, each good to a unit or two in the last place.  double: CUDA's library.
#pragma once
#include "formulas.cuh"

namespace recblr::cuda {

// Denormals are flushed.  Their relative errors, from the PTX manual: 2^-22, 2^-23, 2^-22.9 and 2^-11.
#if defined(__CUDACC__)
RECBLR_HD float exp2_estimate(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
RECBLR_HD float reciprocal_estimate(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
RECBLR_HD float inverse_root_estimate(float x) {
  float y;
  asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
RECBLR_HD float tanh_estimate(float x) {
  float y;
  asm("tanh.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
#else
inline float exp2_estimate(float x) {
  return ::cuda_on_host::flush(
      ::cuda_on_host::approximate(std::exp2(static_cast<double>(::cuda_on_host::flush(x))), 0x1p-22));
}
inline float reciprocal_estimate(float x) {
  return ::cuda_on_host::flush(::cuda_on_host::approximate(1 / static_cast<double>(::cuda_on_host::flush(x)), 0x1p-23));
}
inline float inverse_root_estimate(float x) {
  return ::cuda_on_host::approximate(1 / std::sqrt(static_cast<double>(::cuda_on_host::flush(x))), 0x1.13p-23);
}
inline float tanh_estimate(float x) { return ::cuda_on_host::approximate(std::tanh(static_cast<double>(x)), 0x1p-11); }
#endif

// The larger, the smaller of x and a bound that is a number; NaN stays NaN.
template <typename V>
RECBLR_HD V at_least(V x, float bound) {
  const V b = bound;
  return x < b ? b : x;
}
template <typename V>
RECBLR_HD V at_most(V x, float bound) {
  const V b = bound;
  return x > b ? b : x;
}

RECBLR_HD float reciprocal(float x) { return reciprocal_estimate(x); }
RECBLR_HD double reciprocal(double x) { return 1 / x; }

template <typename V>
struct Roots {
  V root, inverse;
};
RECBLR_HD Roots<float> roots(float x) {
  const float inverse = inverse_root_estimate(x);
  return {x * inverse, inverse};
}
RECBLR_HD Roots<double> roots(double x) {
  const double root = ::sqrt(x);
  return {root, 1 / root};
}

// Declared first: what is included looks names up where it stands.
template <typename V>
struct Exponentials;
RECBLR_HD Exponentials<float> exponentials(float x);
RECBLR_HD Exponentials<double> exponentials(double x);
RECBLR_HD float exponential(float x);
#include "core/logistic-inl.h"

// exp(x).  Beyond +-87 x counts as that, as on a CPU.
RECBLR_HD float exponential(float x) {
  constexpr float kBound = 87.0f;
  x = at_most(at_least(x, -kBound), kBound);
  // exp(x) = 2^(x log2 e); what rounding took from the product, and from log2 e, comes back as a factor.
  constexpr float kLog2E = 0x1.715476p+0f, kLog2ERest = 0x1.4ae0c0p-26f, kLn2 = 0x1.62e430p-1f;
  const float power = x * kLog2E;
  const float rest = multiply_add(x, kLog2ERest, multiply_add(x, kLog2E, -power));
  const float estimate = exp2_estimate(power);
  return multiply_add(estimate, rest * kLn2, estimate);
}

// exp(x) and exp(x) - 1, each accurate on its own.  Near zero exp comes from the polynomial, too, which is better than
// the estimate: the errors of factors near one add up over as many steps as a state lives.
RECBLR_HD Exponentials<float> exponentials(float x) {
  constexpr float kNear = 0x1.62e430p-2f;  // ln 2 / 2
  const float exp = exponential(x), near_zero = expm1_near_zero(x);
  const bool near = -kNear < x && x < kNear;
  return {near ? 1 + near_zero : exp, near ? near_zero : exp - 1};
}
RECBLR_HD Exponentials<double> exponentials(double x) { return {::exp(x), ::expm1(x)}; }

// The sigmoid for results that are stored in 16 bits: off by a relative 2^-21 and, exp's argument being rounded, |x|
// 2^-23.
RECBLR_HD float brief_sigmoid(float x) { return reciprocal(1 + exp2_estimate(x * -0x1.715476p+0f)); }

// The sigmoid where 11 bits will do, from one estimate instead of two: off by 2^-12 at most.
RECBLR_HD float coarse_sigmoid(float x) { return multiply_add(0.5f, tanh_estimate(0.5f * x), 0.5f); }

#include "core/gates-inl.h"

}  // namespace recblr::cuda
