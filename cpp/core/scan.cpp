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

template <typename T>
void scan_forward(const ScanForward<T>& work, std::int64_t begin, std::int64_t end) noexcept {
  RECBLR_CALL(scan_forward, work, begin, end);
}

template <typename T>
void scan_backward(const ScanBackward<T>& work, std::int64_t begin, std::int64_t end) noexcept {
  RECBLR_CALL(scan_backward, work, begin, end);
}

template void scan_forward(const ScanForward<float>&, std::int64_t, std::int64_t) noexcept;
template void scan_forward(const ScanForward<double>&, std::int64_t, std::int64_t) noexcept;
template void scan_backward(const ScanBackward<float>&, std::int64_t, std::int64_t) noexcept;
template void scan_backward(const ScanBackward<double>&, std::int64_t, std::int64_t) noexcept;

}  // namespace recblr
