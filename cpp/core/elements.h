// The element types that kernels read and write beside float and double, and what sums of each are kept in.
//
// Plain data without functions: every instruction set brings its own arithmetic (conversions-inl.h,
// recurrence-inl.h), so that nothing here can be linked from one into another.
#pragma once
#include <cstdint>

namespace recblr {

struct Bfloat16 {
  std::uint16_t bits;
};
struct Float16 {
  std::uint16_t bits;
};
template <typename T>
struct Complex {
  T re, im;
};

template <typename T>
struct Accumulation {
  using type = T;
};
template <>
struct Accumulation<Bfloat16> {
  using type = float;
};
template <>
struct Accumulation<Float16> {
  using type = float;
};

// What states and sums of elements T are kept in: float for the 16-bit types, else T itself.
template <typename T>
using Accumulate = typename Accumulation<T>::type;

}  // namespace recblr

// Calls macro(T) for every element type that the kernels are compiled for.
#define RECBLR_ELEMENT_TYPES(macro)                                                                             \
  macro(float) macro(double) macro(::recblr::Bfloat16) macro(::recblr::Float16) macro(::recblr::Complex<float>) \
      macro(::recblr::Complex<double>)

// The same for the types that states are kept in.
#define RECBLR_STATE_TYPES(macro) \
  macro(float) macro(double) macro(::recblr::Complex<float>) macro(::recblr::Complex<double>)

// The same for the real types, which alone have gates.
#define RECBLR_REAL_TYPES(macro) macro(float) macro(double) macro(::recblr::Bfloat16) macro(::recblr::Float16)
