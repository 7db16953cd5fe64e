#include "core/training_rows.h"

#include "core/isa_call.h"
#include "core/training_rows_isa.h"

namespace recblr {

template <typename T>
void softmax_part(const SoftmaxPart<T>& work, std::int64_t begin, std::int64_t end) noexcept {
  RECBLR_CALL(softmax_part, work, begin, end);
}
template <typename T>
void dropout(const Dropout<T>& work, std::int64_t begin, std::int64_t end) noexcept {
  RECBLR_CALL(dropout, work, begin, end);
}

#define RECBLR_INSTANTIATE(T)                                                                       \
  template void softmax_part(const SoftmaxPart<T>&, std::int64_t, std::int64_t) noexcept;           \
  template void dropout(const Dropout<T>&, std::int64_t, std::int64_t) noexcept;
RECBLR_INSTANTIATE(float)
RECBLR_INSTANTIATE(double)

}  // namespace recblr
