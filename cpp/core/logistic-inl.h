// Included inside the including file's own namespace, never alone (see recurrence-inl.h), which brings reciprocal, and
// exponentials for the types V that it computes in.
//
// The sigmoid and SiLU's slope, and the polynomial under exp and expm1: what vectors on a CPU and single numbers on a
// GPU have in common.

template <typename V>
struct Exponentials {
  V exp, expm1;
};

// expm1(f) in float32: an even relative error of 2^-26 over |f| <= ln 2 / 2.
template <typename V>
RECBLR_HD V expm1_near_zero(V f) {
  const V tail = (((0x1.6d9a84p-10f * f + 0x1.12290ep-7f) * f + 0x1.555486p-5f) * f + 0x1.5554aep-3f) * f + 0.5f;
  return (f * f) * tail + f;
}

// exp(x) alone.
template <typename V>
RECBLR_HD V exponential(V x) {
  return exponentials(x).exp;
}

template <typename V>
RECBLR_HD V sigmoid(V x) {
  return reciprocal(1 + exponential(-x));
}

// SiLU's derivative, x sigmoid(x)' + sigmoid(x), from sigmoid(x).
template <typename V>
RECBLR_HD V silu_slope(V x, V sigmoid) {
  return sigmoid * (x * (1 - sigmoid) + 1);
}
