// The entry points of the fused unit of each instruction set; bdlru.cpp chooses among them.
#pragma once
#include "core/bdlru.h"

#define RECBLR_DECLARE_ELEMENT(T)                                     \
  void bdlru_forward(const BdlruForward<T>&, const Task&) noexcept;   \
  void bdlru_backward(const BdlruBackward<T>&, const Task&) noexcept;

#define RECBLR_DECLARE_BDLRU(isa) \
  namespace recblr::isa {         \
  RECBLR_REAL_TYPES(RECBLR_DECLARE_ELEMENT) \
  }

RECBLR_DECLARE_BDLRU(baseline)
RECBLR_DECLARE_BDLRU(x86_64_v3)
RECBLR_DECLARE_BDLRU(x86_64_v4)
#undef RECBLR_DECLARE_BDLRU
#undef RECBLR_DECLARE_ELEMENT
