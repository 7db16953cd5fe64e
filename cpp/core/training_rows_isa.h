// The entry points of training_rows.h of each instruction set; training_rows.cpp chooses among them.
#pragma once
#include "core/training_rows.h"

#define RECBLR_DECLARE_ELEMENT(T)                                                          \
  void softmax_part(const SoftmaxPart<T>&, std::int64_t, std::int64_t) noexcept;   \
  void dropout(const Dropout<T>&, std::int64_t, std::int64_t) noexcept;

#define RECBLR_DECLARE_TRAINING_ROWS(isa) \
  namespace recblr::isa {                 \
  RECBLR_DECLARE_ELEMENT(float)           \
  RECBLR_DECLARE_ELEMENT(double)          \
  }

RECBLR_DECLARE_TRAINING_ROWS(baseline)
RECBLR_DECLARE_TRAINING_ROWS(x86_64_v3)
RECBLR_DECLARE_TRAINING_ROWS(x86_64_v4)
#undef RECBLR_DECLARE_TRAINING_ROWS
#undef RECBLR_DECLARE_ELEMENT
