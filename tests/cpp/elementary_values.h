// The elementary functions of the chosen instruction set, on an array.
#pragma once
#include <cstdint>

#include "core/dispatch.h"

namespace recblr {

enum class ElementaryFunction { exp, expm1, sigmoid, softplus, root, inverse_root };

struct Elementary {
  using Share = Units;
  ElementaryFunction function;
  const float* in;
  float* out;
};

#define RECBLR_ELEMENTARY_KERNELS RECBLR_KERNEL(Elementary)
RECBLR_ELEMENTARY_KERNELS

}  // namespace recblr
