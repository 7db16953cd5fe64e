// Included inside the including file's own namespace, never alone (see recurrence-inl.h).  That file provides sigmoid,
// exponentials and roots for its types V: elementary-inl.h on a CPU.
//
// The formulas of the behavior-dependent unit (eqs. 5-8 of arXiv 2406.12580), written once for all kernels.

// A smaller u is replaced by this bound and has derivative 0.  So the derivative of beta stays finite at decay 0.
constexpr float kMinU = 1e-30f;

template <typename V>
struct Factors {
  V r, u, alpha, beta, inverse_beta;  // r is the gate, after its sigmoid
};

// u = decay sigmoid(r) scale, alpha = exp(-u), beta = sqrt(1 - alpha^2). beta is computed from expm1, because alpha is
// already rounded.
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

// Returns d where u is at least kMinU, else 0. d is dL/du, or a factor of it.
template <typename V>
RECBLR_HD V where_u_counts(V u, V d) {
  return u < V{} + kMinU ? V{} : d;
}

// dh/du, through alpha and through beta.  The derivative of beta is alpha^2 / beta; through_beta is that times the
// factor of beta.
template <typename V>
RECBLR_HD V u_slope(V previous, V through_beta, V alpha) {
  return through_beta - alpha * previous;
}

// dL/du from G, the adjoint of h[t].
template <typename V>
RECBLR_HD V u_adjoint(V g, V previous, V input, V alpha, V beta_slope, V u) {
  return where_u_counts(u, g * u_slope(previous, input * beta_slope, alpha));
}
