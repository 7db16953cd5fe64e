// The recurrence's formulas, written once for the CPU kernels, the CUDA kernels and the engine.
//
// Included inside the including file's own namespace, so that a copy compiled for one instruction
// set can never be linked into the code of another; hence no include guard and no headers here.
// The including file defines RECBLR_HD as its compiler's inline marker.

// h[t] from h[t-1]: one step of the recurrence.
template <typename T>
RECBLR_HD T step(T a, T previous, T b) {
  return a * previous + b;
}

// The adjoint: G[t] = dL/dh[t] in all its paths, from G of the step that follows and its factor.
template <typename T>
RECBLR_HD T step_adjoint(T next_a, T next_g, T dh) {
  return next_a * next_g + dh;
}
