#include "core/causal_conv1d.h"

#include "core/causal_conv1d_isa.h"
#include "core/isa_call.h"

namespace recblr {

template <typename T>
void conv_forward(const ConvForward<T>& work, const Task& task) noexcept {
  RECBLR_CALL(conv_forward, work, task);
}
template <typename T>
void conv_backward(const ConvBackward<T>& work, const Task& task) noexcept {
  RECBLR_CALL(conv_backward, work, task);
}

#define RECBLR_INSTANTIATE(T)                                             \
  template void conv_forward(const ConvForward<T>&, const Task&) noexcept; \
  template void conv_backward(const ConvBackward<T>&, const Task&) noexcept;
RECBLR_REAL_TYPES(RECBLR_INSTANTIATE)

}  // namespace recblr
