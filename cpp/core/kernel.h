// What every file of kernels begins with: the compiler's vector intrinsics, outside of any namespace, and the marker of
// inline functions.
#pragma once

#if defined(__x86_64__)
#include <immintrin.h>
#endif
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12's own <immintrin.h>
#endif

#define RECBLR_HD inline __attribute__((always_inline))
