// The entry points of the scan kernels of each instruction set; scan.cpp chooses among them.
#pragma once
#include "core/scan.h"

#define RECBLR_DECLARE_ELEMENT(T)                                              \
  void scan_forward(const ScanForward<T>&, std::int64_t, std::int64_t) noexcept;   \
  void scan_backward(const ScanBackward<T>&, std::int64_t, std::int64_t) noexcept; \
  void scan_summary(const ScanSummary<T>&, std::int64_t, std::int64_t) noexcept;
#define RECBLR_DECLARE_STATE(T) void scan_carry(const ScanCarry<T>&, std::int64_t, std::int64_t) noexcept;

#define RECBLR_DECLARE_SCAN(isa) \
  namespace recblr::isa {        \
  RECBLR_ELEMENT_TYPES(RECBLR_DECLARE_ELEMENT) \
  RECBLR_STATE_TYPES(RECBLR_DECLARE_STATE)     \
  }

RECBLR_DECLARE_SCAN(baseline)
RECBLR_DECLARE_SCAN(x86_64_v3)
RECBLR_DECLARE_SCAN(x86_64_v4)
#undef RECBLR_DECLARE_SCAN
#undef RECBLR_DECLARE_ELEMENT
#undef RECBLR_DECLARE_STATE
