// Calls a kernel's entry point in the namespace of the instruction set that was chosen.
#pragma once
#include "core/isa.h"

#if defined(RECBLR_X86_LEVELS)
#define RECBLR_CALL(function, ...)                                          \
  switch (isa()) {                                                          \
    case Isa::x86_64_v4: return x86_64_v4::function(__VA_ARGS__);           \
    case Isa::x86_64_v3: return x86_64_v3::function(__VA_ARGS__);           \
    case Isa::baseline: break;                                              \
  }                                                                         \
  baseline::function(__VA_ARGS__)
#else
#define RECBLR_CALL(function, ...) baseline::function(__VA_ARGS__)
#endif
