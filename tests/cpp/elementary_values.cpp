// The elementary functions of one instruction set, for test_elementary.cpp: compiled once for each, as kernels are.
#include <cstdint>

#include "core/elements.h"
#include "elementary_values.h"
#include "core/kernel.h"

namespace recblr::RECBLR_ISA {
namespace {
#include "core/recurrence.h"
#include "core/conversions.h"
#include "core/lanes.h"
#include "core/elementary.h"

template <typename F>
void map(const float* in, float* out, std::int64_t count, F f) {
  for (std::int64_t i = 0; i < count; i += kLanes<float>) {
    const std::int64_t left = count - i;
    if (left >= kLanes<float>)
      store_lanes(out + i, f(load_lanes(in + i)));
    else
      store_lanes(out + i, f(load_lanes(in + i, left)), left);
  }
}
}  // namespace

void elementary(ElementaryFunction function, const float* in, float* out, std::int64_t count) {
  switch (function) {
    case ElementaryFunction::exp: return map(in, out, count, [](Floats x) { return exponentials(x).exp; });
    case ElementaryFunction::expm1: return map(in, out, count, [](Floats x) { return exponentials(x).expm1; });
    case ElementaryFunction::sigmoid: return map(in, out, count, [](Floats x) { return sigmoid(x); });
    case ElementaryFunction::softplus: return map(in, out, count, [](Floats x) { return softplus(x); });
    case ElementaryFunction::root: return map(in, out, count, [](Floats x) { return roots(x).root; });
    case ElementaryFunction::inverse_root: return map(in, out, count, [](Floats x) { return roots(x).inverse; });
  }
}
}  // namespace recblr::RECBLR_ISA
