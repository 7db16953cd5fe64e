// The behavior-dependent unit's formulas (eqs. 5-8 of arXiv 2406.12580), written once for every kernel.
//
// Included inside the including file's own namespace (see recurrence.h); it brings sigmoid, exponentials and roots
// for the types V that it computes in: elementary.h on a CPU.

// u below this counts as this, and has no derivative: beta's stays finite at decay 0.
constexpr float kMinU = 1e-30f;

template <typename V>
struct Factors {
  V r, u, alpha, beta, inverse_beta;  // r is the gate, after its sigmoid
};

// u = decay sigmoid(r) scale, alpha = exp(-u), beta = sqrt(1 - alpha^2): from expm1, since alpha has been rounded.
template <typename V>
RECBLR_HD Factors<V> factors(V r_before, V decay_scale) {
  Factors<V> f;
  f.r = sigmoid(r_before);
  f.u = decay_scale * f.r;
  const Exponentials<V> e = exponentials(-at_least(f.u, kMinU));
  f.alpha = e.exp;
  const Roots<V> beta = roots(-(e.expm1 * (e.expm1 + 2)));  // 1 - alpha^2 = (1 - alpha)(1 + alpha)
  f.beta = beta.root, f.inverse_beta = beta.inverse;
  return f;
}

// dL/du from G, the adjoint of h[t]: through alpha, and through beta, whose derivative is alpha^2 / beta.
template <typename V>
RECBLR_HD V u_adjoint(V g, V previous, V input, V alpha, V beta_slope, V u) {
  const V du = g * (input * beta_slope - alpha * previous);
  return u < V{} + kMinU ? V{} : du;
}
