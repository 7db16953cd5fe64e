// Included inside an instruction set's namespace, never alone (see recurrence-inl.h).
//
// Conversions between the type that stores an element and the type that computes with it.  They use only integer
// operations and selects, so that the compiler can vectorise loops of them for every instruction set.  They are also
// correct while denormals are flushed: the smallest float16 values are normal numbers in float32.  Rows of float16 use
// the conversion instructions of the machine where it has them.

RECBLR_HD float from_bits(std::uint32_t bits) {
  float x;
  __builtin_memcpy(&x, &bits, sizeof x);
  return x;
}
RECBLR_HD std::uint32_t to_bits(float x) {
  std::uint32_t bits;
  __builtin_memcpy(&bits, &x, sizeof bits);
  return bits;
}

template <typename T>
RECBLR_HD T widen(T x) {
  return x;
}
RECBLR_HD float widen(Bfloat16 x) { return from_bits(std::uint32_t{x.bits} << 16); }
RECBLR_HD float widen(Float16 x) {
  const std::uint32_t magnitude = std::uint32_t(x.bits & 0x7fff) << 13;
  const std::uint32_t exponent = magnitude & 0x0f800000;
  constexpr std::uint32_t kRebias = (127 - 15) << 23;
  const std::uint32_t normal = magnitude + kRebias + (exponent == 0x0f800000 ? kRebias : 0);  // infinity, NaN
  // A denormal has no leading 1.  Put a 1 before its bits, then subtract the value of this 1.
  const std::uint32_t denormal = to_bits(from_bits(magnitude | 0x38800000) - 0x1p-14f);
  return from_bits((exponent == 0 ? denormal : normal) | std::uint32_t(x.bits & 0x8000) << 16);
}

// Stores x as the nearest T, ties to even; NaN stays NaN.
template <typename T>
RECBLR_HD void put(T& at, T x) {
  at = x;
}
RECBLR_HD void put(Bfloat16& at, float x) {
  const std::uint32_t bits = to_bits(x);
  const std::uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
  const std::uint32_t nan = bits >> 16 | 0x40;
  at.bits = static_cast<std::uint16_t>((bits & 0x7fffffff) > 0x7f800000 ? nan : rounded);
}
RECBLR_HD void put(Float16& at, float x) {
  const std::uint32_t sign = to_bits(x) >> 16 & 0x8000, magnitude = to_bits(x) & 0x7fffffff;
  const std::uint32_t normal = (magnitude - ((127 - 15) << 23) + 0xfff + (magnitude >> 13 & 1)) >> 13;
  // Below the smallest normal float16, adding 0.5 leaves the rounded bits in the lowest bits of the sum.
  const std::uint32_t denormal = to_bits(from_bits(magnitude) + 0.5f) - 0x3f000000;
  std::uint32_t bits = magnitude < 0x38800000 ? denormal : normal;
  bits = magnitude >= 0x477ff000 ? 0x7c00 : bits;  // 65520 and more round to infinity
  bits = magnitude > 0x7f800000 ? 0x7e00 : bits;
  at.bits = static_cast<std::uint16_t>(bits | sign);
}

// Converts W neighbours at once.
template <int W, typename T>
RECBLR_HD void widen_row(const T* __restrict row, float* __restrict at) {
  for (int k = 0; k < W; ++k) at[k] = widen(row[k]);
}
template <int W, typename T>
RECBLR_HD void put_row(T* __restrict row, const float* __restrict at) {
  for (int k = 0; k < W; ++k) put(row[k], at[k]);
}
// Compilers unroll rows this narrow and then make scalar code, unless the vectors are written out.
constexpr int kUnrolled = 16;
typedef std::uint32_t Words __attribute__((vector_size(4 * kUnrolled)));
typedef std::uint16_t Halves __attribute__((vector_size(2 * kUnrolled)));
template <>
RECBLR_HD void widen_row<kUnrolled>(const Bfloat16* __restrict row, float* __restrict at) {
  Halves halves;
  __builtin_memcpy(&halves, row, sizeof halves);
  const Words words = __builtin_convertvector(halves, Words) << 16;
  __builtin_memcpy(at, &words, sizeof words);
}
template <>
RECBLR_HD void put_row<kUnrolled>(Bfloat16* __restrict row, const float* __restrict at) {
  Words bits;
  __builtin_memcpy(&bits, at, sizeof bits);
  const Words rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16, nan = bits >> 16 | 0x40;
  const Halves halves = __builtin_convertvector((bits & 0x7fffffff) > 0x7f800000 ? nan : rounded, Halves);
  __builtin_memcpy(row, &halves, sizeof halves);
}
#if defined(__F16C__)
// These instructions read and write float16 denormals even in flush mode.
template <int W>
RECBLR_HD void widen_row(const Float16* __restrict row, float* __restrict at) {
  int k = 0;
  for (; k + 8 <= W; k += 8) {
    __m128i halves;
    __builtin_memcpy(&halves, row + k, sizeof halves);
    const __m256 floats = _mm256_cvtph_ps(halves);
    __builtin_memcpy(at + k, &floats, sizeof floats);
  }
  for (; k < W; ++k) at[k] = widen(row[k]);
}
template <int W>
RECBLR_HD void put_row(Float16* __restrict row, const float* __restrict at) {
  int k = 0;
  for (; k + 8 <= W; k += 8) {
    __m256 floats;
    __builtin_memcpy(&floats, at + k, sizeof floats);
    const __m128i halves = _mm256_cvtps_ph(floats, _MM_FROUND_TO_NEAREST_INT);
    __builtin_memcpy(row + k, &halves, sizeof halves);
  }
  for (; k < W; ++k) put(row[k], at[k]);
}
#endif
