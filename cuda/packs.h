// The number of channels that a thread may read at once: 16 or 8 bytes of them, or one channel. A pack must be
// contiguous, and every row of every array must be aligned to it. One channel works for every layout.
#pragma once
#include <cstdint>

#include "core/scan.h"

namespace recblr::cuda {

template <typename T>
bool packs_fit(const Extent& e, const View<T>& v, std::int64_t n) {
  if (!v.data) return true;
  const bool times = (e.offsets ? e.rows : e.length) > 1, sequences = e.sequences > 1 && !e.offsets;
  return v.channel == 1 && (!times || v.time % n == 0) && (!sequences || v.sequence % n == 0) &&
         reinterpret_cast<std::uintptr_t>(v.data) % (static_cast<std::size_t>(n) * sizeof(T)) == 0;
}

template <typename T, typename... Views>
int channels_in_pack(const Extent& e, const Views&... views) {
  for (std::size_t bytes : {16, 8}) {
    const auto n = static_cast<std::int64_t>(bytes / sizeof(T));
    if (n > 1 && e.channels % n == 0 && (packs_fit(e, views, n) && ...)) return static_cast<int>(n);
  }
  return 1;
}

// A number that is known at compile time.
template <int N>
struct Number {
  static constexpr int value = N;
};
// Calls f with n as a Number. n is a result of channels_in_pack.
template <typename T, typename F>
auto with_pack(int n, const F& f) {
  constexpr int kMost = static_cast<int>(16 / sizeof(T)), kHalf = static_cast<int>(8 / sizeof(T));
  if constexpr (kMost > 1) {
    if (n == kMost) return f(Number<kMost>());
  }
  if constexpr (kHalf > 1) {
    if (n == kHalf) return f(Number<kHalf>());
  }
  return f(Number<1>());
}

}  // namespace recblr::cuda
