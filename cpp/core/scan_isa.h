// The entry points of the scan kernels of each instruction set; scan.cpp chooses among them.
#pragma once
#include "scan.h"

#define RECBLR_DECLARE_SCAN(isa)                                              \
  namespace recblr::isa {                                                     \
  void scan_forward(const ScanForward<float>&, std::int64_t, std::int64_t) noexcept;    \
  void scan_forward(const ScanForward<double>&, std::int64_t, std::int64_t) noexcept;   \
  void scan_backward(const ScanBackward<float>&, std::int64_t, std::int64_t) noexcept;  \
  void scan_backward(const ScanBackward<double>&, std::int64_t, std::int64_t) noexcept; \
  }

RECBLR_DECLARE_SCAN(baseline)
RECBLR_DECLARE_SCAN(x86_64_v3)
RECBLR_DECLARE_SCAN(x86_64_v4)
#undef RECBLR_DECLARE_SCAN
