// Included inside the including file's own namespace, never alone.  The suffix -inl in a file name means this.  So a
// copy that is compiled for one instruction set can never be linked into the code of another.  Hence such a file has no
// include guard and includes no header.
//
// The formulas of the recurrence, written once for the CPU kernels, the CUDA kernels and the engine.  The including
// file defines RECBLR_HD as its compiler's inline marker and knows Complex (elements.h).

// x * y + z, rounded once where the machine can.  The call is explicit, because a compiler may fuse the two operations
// in one loop and not in a similar loop.  The bits would then depend on the kernel, and so on the memory layout.
#if defined(RECBLR_DEVICE)  // cuda/device.cuh
RECBLR_HD float multiply_add(float x, float y, float z) { return __fmaf_rn(x, y, z); }
RECBLR_HD double multiply_add(double x, double y, double z) { return __fma_rn(x, y, z); }
#elif defined(__FMA__) || defined(__ARM_FEATURE_FMA)
RECBLR_HD float multiply_add(float x, float y, float z) { return __builtin_fmaf(x, y, z); }
RECBLR_HD double multiply_add(double x, double y, double z) { return __builtin_fma(x, y, z); }
#endif
template <typename T>
RECBLR_HD T multiply_add(T x, T y, T z) {
  return x * y + z;
}
template <typename T>
RECBLR_HD Complex<T> multiply_add(Complex<T> x, Complex<T> y, Complex<T> z) {
  return {multiply_add(x.re, y.re, multiply_add(-x.im, y.im, z.re)),
          multiply_add(x.re, y.im, multiply_add(x.im, y.re, z.im))};
}

template <typename T>
RECBLR_HD T multiply(T x, T y) {
  return x * y;
}
template <typename T>
RECBLR_HD Complex<T> multiply(Complex<T> x, Complex<T> y) {
  return {multiply_add(x.re, y.re, -(x.im * y.im)), multiply_add(x.re, y.im, x.im * y.re)};
}

template <typename T>
RECBLR_HD T add(T x, T y) {
  return x + y;
}
template <typename T>
RECBLR_HD Complex<T> add(Complex<T> x, Complex<T> y) {
  return {x.re + y.re, x.im + y.im};
}

template <typename T>
RECBLR_HD T conjugate(T x) {
  return x;
}
template <typename T>
RECBLR_HD Complex<T> conjugate(Complex<T> x) {
  return {x.re, -x.im};
}

template <typename T>
struct Constant {
  static RECBLR_HD T zero() { return T(0); }
  static RECBLR_HD T one() { return T(1); }
};
template <typename T>
struct Constant<Complex<T>> {
  static RECBLR_HD Complex<T> zero() { return {T(0), T(0)}; }
  static RECBLR_HD Complex<T> one() { return {T(1), T(0)}; }
};
template <typename T>
RECBLR_HD bool is_zero(T x) {
  return x == T(0);
}
template <typename T>
RECBLR_HD bool is_zero(Complex<T> x) {
  return x.re == T(0) && x.im == T(0);
}

// h[t] from h[t-1]: one step of the recurrence.
template <typename T>
RECBLR_HD T step(T a, T previous, T b) {
  return multiply_add(a, previous, b);
}

// The adjoint G[t] = dL/dh[t] through all paths, from G and the factor a of the step after t.
template <typename T>
RECBLR_HD T step_adjoint(T next_a, T next_g, T dh) {
  return multiply_add(conjugate(next_a), next_g, dh);
}

// dL/da[t] from G[t] and h[t-1].
template <typename T>
RECBLR_HD T factor_adjoint(T g, T previous) {
  return multiply(g, conjugate(previous));
}

// dL/dh[t-1] through step t alone.
template <typename T>
RECBLR_HD T previous_adjoint(T a, T g) {
  return multiply(conjugate(a), g);
}

// The state after a stretch of steps, from the state before it. `product` is the product of the factors of the stretch;
// `from_zero` is the result from a zero state.  A state of exactly zero is not multiplied, because a product that
// overflowed would turn it into NaN.
template <typename T>
RECBLR_HD T step_over(T product, T state, T from_zero) {
  return is_zero(state) ? from_zero : multiply_add(product, state, from_zero);
}

// Adds one more step, a and b, to the product and from_zero of a stretch. summarise_adjoint does the same for the
// adjoint, whose state is previous_adjoint.
template <typename T>
RECBLR_HD void summarise(T a, T b, T& product, T& from_zero) {
  product = multiply(product, a);
  from_zero = step(a, from_zero, b);
}
template <typename T>
RECBLR_HD void summarise_adjoint(T a, T dh, T& product, T& from_zero) {
  product = multiply(product, conjugate(a));
  from_zero = previous_adjoint(a, add(from_zero, dh));
}
