// The elementary functions of one instruction set, for test_elementary.cpp.  This file is compiled once for each
// instruction set, like the kernels.
#include <cstdint>

#include "core/elements.h"
#include "elementary_values.h"
#include "core/kernel.h"

namespace recblr::RECBLR_ISA {
namespace {
#include "core/recurrence-inl.h"
#include "core/conversions-inl.h"
#include "core/lanes-inl.h"
#include "core/elementary-inl.h"

template <typename F>
void map(const Elementary& work, const Units& places, F f) {
  for (std::int64_t i = places.begin; i < places.end; i += kLanes<float>) {
    const std::int64_t left = places.end - i;
    if (left >= kLanes<float>)
      store_lanes(work.out + i, f(load_lanes(work.in + i)));
    else
      store_lanes(work.out + i, f(load_lanes(work.in + i, left)), left);
  }
}

void run(const Elementary& work, const Units& places) {
  switch (work.function) {
    case ElementaryFunction::exp: return map(work, places, [](Floats x) { return exponentials(x).exp; });
    case ElementaryFunction::expm1: return map(work, places, [](Floats x) { return exponentials(x).expm1; });
    case ElementaryFunction::sigmoid: return map(work, places, [](Floats x) { return sigmoid(x); });
    case ElementaryFunction::softplus: return map(work, places, [](Floats x) { return softplus(x); });
    case ElementaryFunction::root: return map(work, places, [](Floats x) { return roots(x).root; });
    case ElementaryFunction::inverse_root: return map(work, places, [](Floats x) { return roots(x).inverse; });
  }
}
}  // namespace

RECBLR_ELEMENTARY_KERNELS

}  // namespace recblr::RECBLR_ISA
