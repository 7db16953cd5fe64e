// What elementary_values.cpp offers for each instruction set.
#pragma once
#include <cstdint>

namespace recblr {
enum class ElementaryFunction { exp, expm1, sigmoid, softplus, root, inverse_root };

namespace baseline {
void elementary(ElementaryFunction, const float* in, float* out, std::int64_t count);
}
namespace x86_64_v3 {
void elementary(ElementaryFunction, const float* in, float* out, std::int64_t count);
}
namespace x86_64_v4 {
void elementary(ElementaryFunction, const float* in, float* out, std::int64_t count);
}
}  // namespace recblr
