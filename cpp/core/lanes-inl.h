// Included inside an instruction set's namespace, never alone (see recurrence-inl.h), after conversions-inl.h.
//
// Vectors as wide as the registers of the instruction set, and the few operations that the compiler's vector arithmetic
// lacks: bits, bounds that keep NaN, and reciprocals from the machine's estimates.  Also loops over channels, one
// vector at a time.

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

template <typename A>
struct Lanes {
  typedef A type __attribute__((vector_size(kVectorBytes)));
};
template <typename A>
using Vector = typename Lanes<A>::type;
template <typename A>
constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(A));

typedef Vector<float> Floats;
typedef Vector<double> Doubles;
typedef Vector<std::int32_t> Ints;

RECBLR_HD Ints bits(Floats x) { return reinterpret_cast<Ints>(x); }
RECBLR_HD Floats from_bits(Ints x) { return reinterpret_cast<Floats>(x); }

template <typename A>
RECBLR_HD Vector<A> all(A x) {
  return Vector<A>{} + x;
}
// The same without an addition: 0 + x is not x if x is -0, but x - 0 is.
RECBLR_HD Floats repeat(float x) { return x - Floats{}; }
// Reads a float from memory into all lanes at once.  The addition of zero above takes one more instruction.
#if defined(__AVX512F__)
RECBLR_HD Floats all(float x) { return (Floats)_mm512_set1_ps(x); }
#elif defined(__AVX2__)
RECBLR_HD Floats all(float x) { return (Floats)_mm256_set1_ps(x); }
#endif

// The larger, or the smaller, of x and a bound that is a number.  NaN stays NaN.
template <typename V>
RECBLR_HD V at_least(V x, float bound) {
  const V b = V{} + bound;
  return x < b ? b : x;
}
template <typename V>
RECBLR_HD V at_most(V x, float bound) {
  const V b = V{} + bound;
  return x > b ? b : x;
}
#if defined(__AVX512F__)
RECBLR_HD Floats at_least(Floats x, float bound) { return (Floats)_mm512_max_ps((__m512)all(bound), (__m512)x); }
RECBLR_HD Floats at_most(Floats x, float bound) { return (Floats)_mm512_min_ps((__m512)all(bound), (__m512)x); }
#elif defined(__AVX2__)
RECBLR_HD Floats at_least(Floats x, float bound) { return (Floats)_mm256_max_ps((__m256)all(bound), (__m256)x); }
RECBLR_HD Floats at_most(Floats x, float bound) { return (Floats)_mm256_min_ps((__m256)all(bound), (__m256)x); }
#elif defined(__SSE2__)
RECBLR_HD Floats at_least(Floats x, float bound) { return (Floats)_mm_max_ps((__m128)all(bound), (__m128)x); }
RECBLR_HD Floats at_most(Floats x, float bound) { return (Floats)_mm_min_ps((__m128)all(bound), (__m128)x); }
#endif

#if defined(__AVX512F__)
RECBLR_HD Floats multiply_add(Floats x, Floats y, Floats z) {
  return (Floats)_mm512_fmadd_ps((__m512)x, (__m512)y, (__m512)z);
}
#elif defined(__FMA__)
RECBLR_HD Floats multiply_add(Floats x, Floats y, Floats z) {
  return (Floats)_mm256_fmadd_ps((__m256)x, (__m256)y, (__m256)z);
}
#endif

// 1 / x, to about one unit in the last place if x and 1 / x are normal numbers.  A division of 16 floats takes as long
// as ten multiplications.  An estimate of 14 bits and one step of Newton's method take as long as four.
template <typename V>
RECBLR_HD V reciprocal(V x) {
  return (V{} + 1) / x;
}
#if defined(__AVX512F__)
RECBLR_HD Floats reciprocal(Floats x) {
  const Floats r = (Floats)_mm512_rcp14_ps((__m512)x);
  return multiply_add(r, multiply_add(-x, r, all(1.0f)), r);
}
#endif

template <typename V>
struct Roots {
  V root, inverse;
};

// sqrt(x) and 1 / sqrt(x), for x > 0 where both results are normal numbers.
RECBLR_HD Roots<Floats> roots(Floats x) {
#if defined(__AVX512F__)
  const Floats estimate = (Floats)_mm512_rsqrt14_ps((__m512)x);
  const Floats root = x * estimate, rest = multiply_add(-root, 0.5f * estimate, all(0.5f));
  return {multiply_add(root, rest, root), multiply_add(estimate, rest, estimate)};
#else
#if defined(__AVX2__)
  const Floats root = (Floats)_mm256_sqrt_ps((__m256)x);
#elif defined(__SSE2__)
  const Floats root = (Floats)_mm_sqrt_ps((__m128)x);
#else
  Floats root;
  for (int k = 0; k < kLanes<float>; ++k) root[k] = __builtin_sqrtf(x[k]);
#endif
  return {root, reciprocal(root)};
#endif
}
RECBLR_HD Roots<Doubles> roots(Doubles x) {
  Doubles root;
  for (int k = 0; k < kLanes<double>; ++k) root[k] = __builtin_sqrt(x[k]);
  return {root, reciprocal(root)};
}

// Loads lanes from memory and stores them.
RECBLR_HD Floats load_lanes(const float* at) {
  Floats v;
  __builtin_memcpy(&v, at, sizeof v);
  return v;
}
RECBLR_HD Doubles load_lanes(const double* at) {
  Doubles v;
  __builtin_memcpy(&v, at, sizeof v);
  return v;
}
template <typename T>
RECBLR_HD Floats load_lanes(const T* at) {  // T is a 16-bit type
  float x[kLanes<float>];
  widen_row<kLanes<float>>(at, x);
  return load_lanes(x);
}
RECBLR_HD void store_lanes(float* at, Floats v) { __builtin_memcpy(at, &v, sizeof v); }
RECBLR_HD void store_lanes(double* at, Doubles v) { __builtin_memcpy(at, &v, sizeof v); }
template <typename T>
RECBLR_HD void store_lanes(T* at, Floats v) {
  float x[kLanes<float>];
  store_lanes(x, v);
  put_row<kLanes<float>>(at, x);
}

// Only the first `count` lanes.  Loading sets the others to zero.
template <typename T>
RECBLR_HD Vector<Accumulate<T>> load_lanes(const T* at, std::int64_t count) {
  T x[kLanes<Accumulate<T>>] = {};
  for (std::int64_t k = 0; k < count; ++k) x[k] = at[k];
  return load_lanes(x);
}
template <typename T>
RECBLR_HD void store_lanes(T* at, Vector<Accumulate<T>> v, std::int64_t count) {
  T x[kLanes<Accumulate<T>>];
  store_lanes(x, v);
  for (std::int64_t k = 0; k < count; ++k) at[k] = x[k];
}

// Calls f(c, load, store) for each vector of channels from begin to end. load and store take a pointer to the element
// of channel c in some array.
template <typename A, typename F>
RECBLR_HD void over_channels(std::int64_t begin, std::int64_t end, F&& f) {
  constexpr std::int64_t kStep = kLanes<A>;
  std::int64_t c = begin;
  for (; c + kStep <= end; c += kStep)
    f(
        c, [](auto* at) __attribute__((always_inline)) { return load_lanes(at); },
        [](auto* at, auto v) __attribute__((always_inline)) { store_lanes(at, v); });
  if (c == end) return;
  const std::int64_t count = end - c;
  f(
      c, [count](auto* at) __attribute__((always_inline)) { return load_lanes(at, count); },
      [count](auto* at, auto v) __attribute__((always_inline)) { store_lanes(at, v, count); });
}
