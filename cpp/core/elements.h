// The element types that kernels read and write besides float and double, and the type of the sums of each.
//
// Plain data without functions.  Each instruction set has its own arithmetic (conversions-inl.h, recurrence-inl.h), so
// the linker cannot mix code of two instruction sets.
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

// The type of states and sums of elements T: float for the 16-bit types, otherwise T itself.
template <typename T>
using Accumulate = typename Accumulation<T>::type;

}  // namespace recblr

// Calls macro(T) for every element type that the kernels are compiled for.
#define RECBLR_ELEMENT_TYPES(macro)                                                                             \
  macro(float) macro(double) macro(::recblr::Bfloat16) macro(::recblr::Float16) macro(::recblr::Complex<float>) \
      macro(::recblr::Complex<double>)

// Calls macro(T) for every type of a state.
#define RECBLR_STATE_TYPES(macro) \
  macro(float) macro(double) macro(::recblr::Complex<float>) macro(::recblr::Complex<double>)

// Calls macro(T) for every real element type.  Only real types have gates.
#define RECBLR_REAL_TYPES(macro) macro(float) macro(double) macro(::recblr::Bfloat16) macro(::recblr::Float16)
