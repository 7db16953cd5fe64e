// The kernels of catalogue_scan.h.  Compiled once per instruction set, each time into the namespace RECBLR_ISA (see
// core/scan_kernels.cpp).
#include "engine/catalogue_scan.h"
#include "core/elements.h"
#include "core/kernel.h"

namespace recblr::RECBLR_ISA {
namespace {

#include "core/flush_denormals-inl.h"
#include "core/recurrence-inl.h"

void run(const engine::RowScores& w, const Units& share) {
  const FlushDenormals<float> guard;
  for (std::int64_t i = share.begin; i < share.end; ++i) {
    const float* row = w.rows + (w.items[i] - w.first) * w.width;
    float sum = 0;
    for (std::int64_t d = 0; d < w.width; ++d) sum = multiply_add(w.vector[d], row[d], sum);
    w.out[i] = sum;
  }
}

}  // namespace

RECBLR_KERNEL(engine::RowScores)

}  // namespace recblr::RECBLR_ISA
