// Between the type that an element is stored in and the type that it is computed in.  Integer operations
// and selects only, so that every instruction set's compiler turns loops of them into vector code, and
// right while denormals are flushed: a float16's smallest values are normal numbers in float32.
//
// Included inside an instruction set's namespace (see recurrence.h).

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
  // Of a denormal's bits, put behind a leading one, that one is taken away again.
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
  // Below the smallest normal float16, adding 0.5 leaves its bits, rounded, in the sum's lowest ones.
  const std::uint32_t denormal = to_bits(from_bits(magnitude) + 0.5f) - 0x3f000000;
  std::uint32_t bits = magnitude < 0x38800000 ? denormal : normal;
  bits = magnitude >= 0x477ff000 ? 0x7c00 : bits;  // 65520 and more round to infinity
  bits = magnitude > 0x7f800000 ? 0x7e00 : bits;
  at.bits = static_cast<std::uint16_t>(bits | sign);
}
