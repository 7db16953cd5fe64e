#include "core/scan.h"

#include "core/isa_call.h"
#include "core/scan_isa.h"

namespace recblr {

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
