// The scan on a CPU.  Compiled once per instruction set, each time into the namespace RECBLR_ISA;
// everything below is in that namespace and no std template is used, so that no function compiled
// for one instruction set can stand in for another's at link time.
#include "scan_isa.h"

#define RECBLR_HD inline __attribute__((always_inline))

namespace recblr::RECBLR_ISA {
namespace {

#include "flush_denormals.h"
#include "recurrence.h"

// Where the rows of one sequence start, and how to walk them in the order of time.
struct Walk {
  std::int64_t sequence;  // index along the sequence axis
  std::int64_t row;       // the first row in time's order
  std::int64_t length;
  std::int64_t direction;  // +1, or -1 in reverse

  Walk(const Extent& e, std::int64_t s) {
    sequence = e.offsets ? 0 : s;
    row = e.offsets ? e.offsets[s] : 0;
    length = e.offsets ? e.offsets[s + 1] - e.offsets[s] : e.length;
    direction = e.reverse ? -1 : 1;
    if (e.reverse) row += length - 1;
  }
  template <typename T>
  T* first(const View<T>& v, std::int64_t c) const {
    return v.data + sequence * v.sequence + row * v.time + c * v.channel;
  }
  template <typename T>
  T* last(const View<T>& v, std::int64_t c) const {
    return first(v, c) + (length - 1) * stride(v);
  }
  template <typename T>
  std::int64_t stride(const View<T>& v) const {
    return direction * v.time;
  }
};

template <typename T>
T* state_at(const View<T>& v, std::int64_t s, std::int64_t c) {
  return v.data + s * v.sequence + c * v.channel;
}

// W adjacent channels from channel c on, serial in time.  W > 1 needs channel stride 1 everywhere;
// the loops over W have a constant count, so that the compiler turns them into vector code.
template <int W, typename T>
void forward(const ScanForward<T>& w, std::int64_t s, std::int64_t c) {
  T state[W];
  if (w.initial.data) {
    const T* initial = state_at(w.initial, s, c);
    for (int k = 0; k < W; ++k) state[k] = initial[k];
  } else {
    for (int k = 0; k < W; ++k) state[k] = 0;
  }
  const Walk walk(w.extent, s);
  if (walk.length <= 0) return;
  const T* __restrict a = walk.first(w.a, c);
  const T* __restrict b = walk.first(w.b, c);
  T* __restrict h = walk.first(w.h, c);
  const std::int64_t da = walk.stride(w.a), db = walk.stride(w.b), dh = walk.stride(w.h);
  for (std::int64_t t = 0; t < walk.length; ++t) {
    for (int k = 0; k < W; ++k) h[t * dh + k] = state[k] = step(a[t * da + k], state[k], b[t * db + k]);
  }
}

template <int W, typename T>
void backward(const ScanBackward<T>& w, std::int64_t s, std::int64_t c) {
  T g[W], next_a[W];
  for (int k = 0; k < W; ++k) g[k] = next_a[k] = 0;
  const Walk walk(w.extent, s);
  if (walk.length > 0) {
    const T* __restrict dh = walk.last(w.dh, c);
    const T* __restrict a = walk.last(w.a, c);
    const T* __restrict h = walk.last(w.h, c);
    T* __restrict da = walk.last(w.da, c);
    T* __restrict db = walk.last(w.db, c);
    const std::int64_t sdh = walk.stride(w.dh), sa = walk.stride(w.a), sh = walk.stride(w.h);
    const std::int64_t sda = walk.stride(w.da), sdb = walk.stride(w.db);
    for (std::int64_t t = 0; t + 1 < walk.length; ++t) {
      const T* previous = h - (t + 1) * sh;
      for (int k = 0; k < W; ++k) {
        g[k] = step_adjoint(next_a[k], g[k], dh[-t * sdh + k]);
        next_a[k] = a[-t * sa + k];
        db[-t * sdb + k] = g[k];
        da[-t * sda + k] = g[k] * previous[k];
      }
    }
    // The first step follows the initial state.
    const std::int64_t t = walk.length - 1;
    const T* initial = w.initial.data ? state_at(w.initial, s, c) : nullptr;
    for (int k = 0; k < W; ++k) {
      g[k] = step_adjoint(next_a[k], g[k], dh[-t * sdh + k]);
      next_a[k] = a[-t * sa + k];
      db[-t * sdb + k] = g[k];
      da[-t * sda + k] = initial ? g[k] * initial[k] : T(0);
    }
  }
  T* dinitial = state_at(w.dinitial, s, c);
  for (int k = 0; k < W; ++k) dinitial[k] = next_a[k] * g[k];
}

constexpr int kWide = Extent::kBlock, kNarrow = 8;

template <int W, typename T>
void run(const ScanForward<T>& w, std::int64_t s, std::int64_t c) {
  forward<W>(w, s, c);
}
template <int W, typename T>
void run(const ScanBackward<T>& w, std::int64_t s, std::int64_t c) {
  backward<W>(w, s, c);
}

template <typename T>
bool adjacent(const View<T>& v) {
  return !v.data || v.channel == 1;
}
template <typename T>
bool all_adjacent(const ScanForward<T>& w) {
  return adjacent(w.a) && adjacent(w.b) && adjacent(w.initial) && adjacent(w.h);
}
template <typename T>
bool all_adjacent(const ScanBackward<T>& w) {
  return adjacent(w.dh) && adjacent(w.a) && adjacent(w.h) && adjacent(w.initial) && adjacent(w.da) &&
         adjacent(w.db) && adjacent(w.dinitial);
}

template <typename T, typename Work>
void units(const Work& w, std::int64_t begin, std::int64_t end) {
  [[maybe_unused]] const FlushDenormals<T> guard;
  const bool wide = all_adjacent(w);
  const std::int64_t blocks = w.extent.blocks();
  for (std::int64_t unit = begin; unit < end; ++unit) {
    const std::int64_t s = unit / blocks;
    std::int64_t c = unit % blocks * Extent::kBlock;
    const std::int64_t stop = c + Extent::kBlock < w.extent.channels ? c + Extent::kBlock : w.extent.channels;
    if (wide) {
      for (; c + kWide <= stop; c += kWide) run<kWide>(w, s, c);
      for (; c + kNarrow <= stop; c += kNarrow) run<kNarrow>(w, s, c);
    }
    for (; c < stop; ++c) run<1>(w, s, c);
  }
}

}  // namespace

void scan_forward(const ScanForward<float>& w, std::int64_t begin, std::int64_t end) noexcept { units<float>(w, begin, end); }
void scan_forward(const ScanForward<double>& w, std::int64_t begin, std::int64_t end) noexcept { units<double>(w, begin, end); }
void scan_backward(const ScanBackward<float>& w, std::int64_t begin, std::int64_t end) noexcept { units<float>(w, begin, end); }
void scan_backward(const ScanBackward<double>& w, std::int64_t begin, std::int64_t end) noexcept { units<double>(w, begin, end); }

}  // namespace recblr::RECBLR_ISA
