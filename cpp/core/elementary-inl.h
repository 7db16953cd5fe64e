// Included inside an instruction set's namespace, never alone (see recurrence-inl.h), after lanes-inl.h.
//
// exp, expm1 and softplus, and the functions that logistic-inl.h builds on them.  In float32 they are short polynomials
// on vectors, with an error of at most a few units in the last place (tests/cpp/test_elementary.cpp holds the measured
// errors).  In float64 they call the C library, lane by lane.

// Declared before the include, because the included file looks these names up at this point.
template <typename V>
struct Exponentials;
RECBLR_HD Exponentials<Floats> exponentials(Floats x);
RECBLR_HD Exponentials<Doubles> exponentials(Doubles x);
#include "core/logistic-inl.h"

// exp(x) and exp(x) - 1, each accurate on its own.  Above 87 and below -87, the bounds of normal floats, x is replaced
// by the bound.
RECBLR_HD Exponentials<Floats> exponentials(Floats x) {
  constexpr float kBound = 87.0f;
  x = at_most(at_least(x, -kBound), kBound);
  // x = n ln 2 + f, |f| <= ln 2 / 2.  Adding 1.5 * 2^23 rounds to an integer n and leaves n in the lowest bits.
  constexpr float kInverseLn2 = 0x1.715476p+0f, kRound = 0x1.8p23f;
  const Floats rounded = x * kInverseLn2 + kRound;
  const Floats n = rounded - kRound;
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
  const Floats f =
      multiply_add(n, all(-0x1.62e430p-1f), x);  // rounded once; ln 2 is off by 1.9e-9: for n <= 126, up to 4 units
#else
  const Floats f = (x - n * 0.693359375f) + n * 0x1.bd0106p-13f;  // in two parts, the first of which is exact
#endif
  const Floats power = from_bits((bits(rounded) << 23) + 0x3f800000);  // 2^n
  const Floats p = expm1_near_zero(f);
  return {power * p + power, power * p + (power - 1.0f)};
}
RECBLR_HD Exponentials<Doubles> exponentials(Doubles x) {
  Exponentials<Doubles> e;
  for (int k = 0; k < kLanes<double>; ++k) e.exp[k] = __builtin_exp(x[k]), e.expm1[k] = __builtin_expm1(x[k]);
  return e;
}

// log(1 + exp(x)).
RECBLR_HD Floats softplus(Floats x) {
  const Floats e = exponentials(x < 0.0f ? x : -x).exp;  // log1p(e) = 2 atanh(w)
  const Floats w = e * reciprocal(e + 2.0f), square = w * w;
  const Floats tail = ((0x1.1ef870p-3f * square + 0x1.1eb612p-3f) * square + 0x1.99d27cp-3f) * square + 0x1.5555p-2f;
  const Floats log1p = 2.0f * (w * square * tail + w);
  return log1p + at_least(x, 0.0f);
}
RECBLR_HD Doubles softplus(Doubles x) {
  Doubles y;
  for (int k = 0; k < kLanes<double>; ++k)
    y[k] = __builtin_log1p(__builtin_exp(x[k] < 0 ? x[k] : -x[k])) + (x[k] < 0 ? 0 : x[k]);
  return y;
}
