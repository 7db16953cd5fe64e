// Included inside the including file's own namespace, never alone (see recurrence-inl.h).  That file provides
// reciprocal, and exponentials for its types V.
//
// The sigmoid, the derivative of SiLU, and the polynomial for exp and expm1.  Vectors on a CPU and single numbers on a
// GPU share them.

template <typename V>
struct Exponentials {
  V exp, expm1;
};

// expm1(f) in float32, with a relative error of 2^-26, spread evenly over |f| <= ln 2 / 2.
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
