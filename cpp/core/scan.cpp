#include "scan.h"

#include "isa.h"
#include "scan_isa.h"

namespace recblr {

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

#define RECBLR_DEFINE(function, Work)                                              \
  template <typename T>                                                            \
  void function(const Work<T>& work, std::int64_t begin, std::int64_t end) noexcept { \
    RECBLR_CALL(function, work, begin, end);                                       \
  }

RECBLR_DEFINE(scan_forward, ScanForward)
RECBLR_DEFINE(scan_backward, ScanBackward)
RECBLR_DEFINE(scan_summary, ScanSummary)
RECBLR_DEFINE(scan_carry, ScanCarry)

#define RECBLR_INSTANTIATE(T)                                                               \
  template void scan_forward(const ScanForward<T>&, std::int64_t, std::int64_t) noexcept;   \
  template void scan_backward(const ScanBackward<T>&, std::int64_t, std::int64_t) noexcept; \
  template void scan_summary(const ScanSummary<T>&, std::int64_t, std::int64_t) noexcept;
#define RECBLR_INSTANTIATE_CARRY(T) template void scan_carry(const ScanCarry<T>&, std::int64_t, std::int64_t) noexcept;

RECBLR_ELEMENT_TYPES(RECBLR_INSTANTIATE)
RECBLR_STATE_TYPES(RECBLR_INSTANTIATE_CARRY)

}  // namespace recblr
