// The entry points of the convolution of each instruction set; causal_conv1d.cpp chooses among them.
#pragma once
#include "core/causal_conv1d.h"

#define RECBLR_DECLARE_ELEMENT(T)                                     \
  void conv_forward(const ConvForward<T>&, const Task&) noexcept;   \
  void conv_backward(const ConvBackward<T>&, const Task&) noexcept;

#define RECBLR_DECLARE_CONV(isa) \
  namespace recblr::isa {         \
  RECBLR_REAL_TYPES(RECBLR_DECLARE_ELEMENT) \
  }

RECBLR_DECLARE_CONV(baseline)
RECBLR_DECLARE_CONV(x86_64_v3)
RECBLR_DECLARE_CONV(x86_64_v4)
#undef RECBLR_DECLARE_CONV
#undef RECBLR_DECLARE_ELEMENT
