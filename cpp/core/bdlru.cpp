#include "core/bdlru.h"

#include "core/bdlru_isa.h"
#include "core/isa_call.h"

namespace recblr {

template <typename T>
void bdlru_forward(const BdlruForward<T>& work, const Task& task) noexcept {
  RECBLR_CALL(bdlru_forward, work, task);
}
template <typename T>
void bdlru_backward(const BdlruBackward<T>& work, const Task& task) noexcept {
  RECBLR_CALL(bdlru_backward, work, task);
}

#define RECBLR_INSTANTIATE(T)                                             \
  template void bdlru_forward(const BdlruForward<T>&, const Task&) noexcept; \
  template void bdlru_backward(const BdlruBackward<T>&, const Task&) noexcept;
RECBLR_REAL_TYPES(RECBLR_INSTANTIATE)

}  // namespace recblr
