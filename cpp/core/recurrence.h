// The recurrence's formulas, written once for the CPU kernels, the CUDA kernels and the engine.
//
// Included inside the including file's own namespace, so that a copy compiled for one instruction
// set can never be linked into the code of another; hence no include guard and no headers here.
// The including file defines RECBLR_HD as its compiler's inline marker.

// x * y + z, rounded once wherever the machine can.  Said outright: left to the compiler, it is done
// in one loop and not in its sibling, and the bits then depend on which kernel a memory layout gets.
#if (defined(__FMA__) || defined(__ARM_FEATURE_FMA)) && !defined(__CUDA_ARCH__)
RECBLR_HD float multiply_add(float x, float y, float z) { return __builtin_fmaf(x, y, z); }
RECBLR_HD double multiply_add(double x, double y, double z) { return __builtin_fma(x, y, z); }
#else
template <typename T>
RECBLR_HD T multiply_add(T x, T y, T z) {
  return x * y + z;
}
#endif

// h[t] from h[t-1]: one step of the recurrence.
template <typename T>
RECBLR_HD T step(T a, T previous, T b) {
  return multiply_add(a, previous, b);
}

// The adjoint: G[t] = dL/dh[t] in all its paths, from G of the step that follows and its factor.
template <typename T>
RECBLR_HD T step_adjoint(T next_a, T next_g, T dh) {
  return multiply_add(next_a, next_g, dh);
}
