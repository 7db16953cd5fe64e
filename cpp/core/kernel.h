// Every file of kernels includes this last, outside any namespace.  It brings the compiler's vector intrinsics, the
// marker of inline functions and the definition of kernels.
#pragma once
#include "core/dispatch.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12's own <immintrin.h>
#endif

#define RECBLR_HD inline __attribute__((always_inline))

// From here on, the lists that declare kernels define them instead: each calls a function run(work, share).
#undef RECBLR_KERNEL
#define RECBLR_KERNEL(Work) \
  RECBLR_COMPUTE(Work) { run(work, share); }
