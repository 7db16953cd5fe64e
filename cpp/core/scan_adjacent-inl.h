// Included inside an instruction set's namespace, never alone (see recurrence-inl.h), after walk-inl.h.
//
// The scan for arrays whose neighbouring channels are neighbours in memory.  It is serial in time and works on whole
// rows, so that memory is read as one stream.  Reading rows of 128 channels in parts of 64 takes up to three times as
// long, because the processor prefetches along memory, not across rows.
//
// The channels of a row are processed in blocks of a constant width.  The loops touch only rows, so that the compiler
// vectorises them.  The bits of a channel do not depend on its block.

// W neighbours in memory, in the type that computes with them.  If that is also the stored type, this is the row
// itself; otherwise it is a buffer.
template <int W, typename T>
struct ReadRow {
  const T* __restrict at;
  explicit RECBLR_HD ReadRow(const T* row) : at(row) {}
};
template <int W, typename T>
struct WriteRow {
  T* __restrict at;
  explicit RECBLR_HD WriteRow(T* row) : at(row) {}
  RECBLR_HD void done() {}
};

template <int W, typename T>
struct ReadConverted {
  float at[W];
  explicit RECBLR_HD ReadConverted(const T* __restrict row) { widen_row<W>(row, at); }
};
template <int W, typename T>
struct WriteConverted {
  T* __restrict row;
  float at[W];
  explicit RECBLR_HD WriteConverted(T* row) : row(row) {}
  RECBLR_HD void done() { put_row<W>(row, at); }
};

template <int W>
struct ReadRow<W, Bfloat16> : ReadConverted<W, Bfloat16> {
  using ReadConverted<W, Bfloat16>::ReadConverted;
};
template <int W>
struct ReadRow<W, Float16> : ReadConverted<W, Float16> {
  using ReadConverted<W, Float16>::ReadConverted;
};
template <int W>
struct WriteRow<W, Bfloat16> : WriteConverted<W, Bfloat16> {
  using WriteConverted<W, Bfloat16>::WriteConverted;
};
template <int W>
struct WriteRow<W, Float16> : WriteConverted<W, Float16> {
  using WriteConverted<W, Float16>::WriteConverted;
};

template <int W, typename A>
RECBLR_HD void step_row(const A* __restrict a, const A* __restrict b, A* __restrict h, A* __restrict state) {
  for (int k = 0; k < W; ++k) h[k] = state[k] = step(a[k], state[k], b[k]);
}
template <int W, typename A>
RECBLR_HD void adjoint_row(const A* __restrict dh, const A* __restrict a, const A* __restrict previous,
                           A* __restrict da, A* __restrict db, A* __restrict g, A* __restrict next_a) {
  for (int k = 0; k < W; ++k) {
    db[k] = g[k] = step_adjoint(next_a[k], g[k], dh[k]);
    da[k] = factor_adjoint(g[k], previous[k]);
    next_a[k] = a[k];
  }
}
template <int W, typename A>
RECBLR_HD void summary_row(const A* __restrict a, const A* __restrict x, bool backward, A* __restrict product,
                           A* __restrict state) {
  if (backward) {
    for (int k = 0; k < W; ++k) summarise_adjoint(a[k], x[k], product[k], state[k]);
  } else {
    for (int k = 0; k < W; ++k) summarise(a[k], x[k], product[k], state[k]);
  }
}

// A number of channels that is known at compile time.
template <int W>
struct Fixed {
  static constexpr int value = W;
};

// Calls f(Fixed<W>, k) for blocks of W channels from channel k on, which together make n channels.  If time runs down
// in memory, the blocks run down too: otherwise the reads would be no single stream.
template <typename F>
RECBLR_HD void in_blocks(std::int64_t n, bool down, const F& f) {
  if (down) {
    for (; n % 8; --n) f(Fixed<1>(), n - 1);
    if (n % 16) f(Fixed<8>(), n -= 8);
    while (n) f(Fixed<16>(), n -= 16);
    return;
  }
  std::int64_t k = 0;
  for (; k + 64 <= n; k += 64) f(Fixed<64>(), k);
  for (; k + 16 <= n; k += 16) f(Fixed<16>(), k);
  for (; k + 8 <= n; k += 8) f(Fixed<8>(), k);
  for (; k < n; ++k) f(Fixed<1>(), k);
}
// A single block keeps its states in registers from step to step.
template <int W, typename F>
RECBLR_HD void in_blocks(Fixed<W> width, bool, const F& f) {
  f(width, std::int64_t{0});
}
template <int W>
constexpr std::int64_t number(Fixed<W>) {
  return W;
}
constexpr std::int64_t number(std::int64_t n) { return n; }

// Prefetches W elements into the L2 cache.
template <int W, typename T>
RECBLR_HD void fetch(const T* at) {
  for (std::size_t byte = 0; byte < W * sizeof(T); byte += 64)
    __builtin_prefetch(reinterpret_cast<const char*>(at) + byte, 0, 2);
}

// Processes n channels from channel c on, at most kMost.  N is a plain number or a Fixed one.
template <int kMost>
struct Adjacent {
  template <typename T, typename N>
  static void run(const ScanForward<T>& w, std::int64_t index, std::int64_t c, N n) {
    const Walk walk(w.extent, index);
    alignas(64) Accumulate<T> state[kMost];
    load_state(w.initial, index, c, number(n), state);
    const auto a = forward_stream(w.a, walk, c), b = forward_stream(w.b, walk, c);
    const auto h = forward_stream(w.h, walk, c);
    for (std::int64_t t = 0; t < walk.length; ++t) {
      in_blocks(n, a.time < 0, [&](auto width, std::int64_t k) __attribute__((always_inline)) {
        constexpr int W = decltype(width)::value;
        const ReadRow<W, T> ra(a.step(t) + k), rb(b.step(t) + k);
        WriteRow<W, T> rh(h.step(t) + k);
        if (w.ahead) fetch<W>(a.step(t + w.ahead) + k), fetch<W>(b.step(t + w.ahead) + k);
        step_row<W>(ra.at, rb.at, rh.at, state + k);
        rh.done();
      });
    }
    if (walk.ends) store_state(w.final, walk.sequence, c, number(n), state);
  }

  template <typename T, typename N>
  static void run(const ScanBackward<T>& w, std::int64_t index, std::int64_t c, N n) {
    using A = Accumulate<T>;
    const Walk walk(w.extent, index);
    alignas(64) A g[kMost], next_a[kMost];
    load_state(w.dfinal, index, c, number(n), g);
    for (std::int64_t k = 0; k < number(n); ++k) next_a[k] = Constant<A>::one();
    const auto dh = backward_stream(w.dh, walk, c), a = backward_stream(w.a, walk, c),
               h = backward_stream(w.h, walk, c);
    const auto da = backward_stream(w.da, walk, c), db = backward_stream(w.db, walk, c);
    auto adjoint = [&](auto width, std::int64_t k, std::int64_t t, const A* previous) __attribute__((always_inline)) {
      constexpr int W = decltype(width)::value;
      const ReadRow<W, T> rdh(dh.step(t) + k), ra(a.step(t) + k);
      WriteRow<W, T> rda(da.step(t) + k), rdb(db.step(t) + k);
      if (w.ahead) fetch<W>(dh.step(t + w.ahead) + k), fetch<W>(a.step(t + w.ahead) + k);
      adjoint_row<W>(rdh.at, ra.at, previous, rda.at, rdb.at, g + k, next_a + k);
      rda.done();
      rdb.done();
    };
    const std::int64_t after_rows = walk.begins ? walk.length - 1 : walk.length;  // steps that follow a row of h
    for (std::int64_t t = 0; t < after_rows; ++t) {
      in_blocks(n, a.time < 0, [&](auto width, std::int64_t k) __attribute__((always_inline)) {
        adjoint(width, k, t, ReadRow<decltype(width)::value, T>(h.step(t + 1) + k).at);
      });
    }
    if (!walk.begins) return;
    if (walk.length > 0) {
      A initial[kMost];
      load_state(w.initial, walk.sequence, c, number(n), initial);
      in_blocks(n, a.time < 0, [&](auto width, std::int64_t k) { adjoint(width, k, after_rows, initial + k); });
      // Without an initial state, the derivative of the factor is zero for any g.
      if (!w.initial.data)
        for (std::int64_t k = 0; k < number(n); ++k) put(da.step(after_rows)[k], Constant<A>::zero());
    }
    for (std::int64_t k = 0; k < number(n); ++k) g[k] = previous_adjoint(next_a[k], g[k]);
    store_state(w.dinitial, walk.sequence, c, number(n), g);
  }

  template <typename T, typename N>
  static void run(const ScanSummary<T>& w, std::int64_t index, std::int64_t c, N n) {
    using A = Accumulate<T>;
    const Walk walk(w.extent, index);
    alignas(64) A product[kMost], state[kMost];
    for (std::int64_t k = 0; k < number(n); ++k) product[k] = Constant<A>::one(), state[k] = Constant<A>::zero();
    const auto a = w.backward ? backward_stream(w.a, walk, c) : forward_stream(w.a, walk, c);
    const auto x = w.backward ? backward_stream(w.x, walk, c) : forward_stream(w.x, walk, c);
    for (std::int64_t t = 0; t < walk.length; ++t) {
      in_blocks(n, a.time < 0, [&](auto width, std::int64_t k) __attribute__((always_inline)) {
        constexpr int W = decltype(width)::value;
        const ReadRow<W, T> ra(a.step(t) + k), rx(x.step(t) + k);
        summary_row<W>(ra.at, rx.at, w.backward, product + k, state + k);
      });
    }
    store_state(w.product, index, c, number(n), product);
    store_state(w.from_zero, index, c, number(n), state);
  }
};

// The largest number of channels that are processed together.  Their states take 4 KiB, which stay in the L1 cache.
template <typename A>
constexpr int kRowChannels = static_cast<int>(4096 / sizeof(A));

// Processes any number n of channels from channel c on.
template <typename T, typename Work>
void run_rows(const Work& w, std::int64_t index, std::int64_t c, std::int64_t n) {
  constexpr int kMost = kRowChannels<Accumulate<T>>;
  for (; n > kMost; c += kMost, n -= kMost) Adjacent<kMost>::run(w, index, c, std::int64_t{kMost});
  switch (n) {
    case 1: return Adjacent<1>::run(w, index, c, Fixed<1>());
    case 8: return Adjacent<8>::run(w, index, c, Fixed<8>());
    case 16: return Adjacent<16>::run(w, index, c, Fixed<16>());
    case 32: return Adjacent<32>::run(w, index, c, Fixed<32>());
    case 64: return Adjacent<64>::run(w, index, c, Fixed<64>());
    default: return Adjacent<kMost>::run(w, index, c, n);
  }
}
