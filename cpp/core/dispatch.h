// Chooses the instruction set of the kernels: the widest that this machine supports, unless RECBLR_ISA names one.
// Calls of kernels go to the chosen instruction set.
//
// A kernel is a function compute(work, share) that does one share of some work.  It is compiled once for each
// instruction set, each time into its own namespace (*_kernels.cpp).  The header of an operator declares its kernels
// with RECBLR_KERNEL.
#pragma once
#include <cstdint>

namespace recblr {

enum class Isa { baseline, x86_64_v3, x86_64_v4 };

// The choice is made once, at first use.  If RECBLR_ISA cannot be used, the best one is chosen and isa_error() says
// why.
Isa isa();
const char* isa_name(Isa);

// Null, or one sentence that says why RECBLR_ISA cannot be used.
const char* isa_error();

// The names that RECBLR_ISA may take on this machine, separated by ", ".
const char* isa_available();

// A share of work that is counted in units: the units [begin, end).
struct Units {
  std::int64_t begin, end;
};

}  // namespace recblr

// A kernel's signature.
#define RECBLR_COMPUTE(Work) void compute(const Work& work, const Work::Share& share) noexcept

// Declares the kernels for one type of work, and compute(work, share), which calls the chosen kernel.  Use it in
// namespace recblr.  RECBLR_ONE_ISA: the build has the kernels of one instruction set only, in namespace baseline.
#if defined(__x86_64__) && !defined(RECBLR_ONE_ISA)
#define RECBLR_KERNEL(Work)                                        \
  namespace baseline {                                             \
  RECBLR_COMPUTE(Work);                                            \
  }                                                                \
  namespace x86_64_v3 {                                            \
  RECBLR_COMPUTE(Work);                                            \
  }                                                                \
  namespace x86_64_v4 {                                            \
  RECBLR_COMPUTE(Work);                                            \
  }                                                                \
  inline RECBLR_COMPUTE(Work) {                                    \
    switch (isa()) {                                               \
      case Isa::x86_64_v4: return x86_64_v4::compute(work, share); \
      case Isa::x86_64_v3: return x86_64_v3::compute(work, share); \
      case Isa::baseline: break;                                   \
    }                                                              \
    baseline::compute(work, share);                                \
  }
#else
#define RECBLR_KERNEL(Work) \
  namespace baseline {      \
  RECBLR_COMPUTE(Work);     \
  }                         \
  inline RECBLR_COMPUTE(Work) { baseline::compute(work, share); }
#endif
