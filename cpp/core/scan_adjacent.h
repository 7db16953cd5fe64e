// The scan where neighbouring channels are neighbours in memory: W of them at a time, serial in time.  The
// loops over W have a constant count and touch nothing but rows, so that the compiler turns them into
// vector code.  W = 1 takes any strides.
//
// Included inside an instruction set's namespace (see recurrence.h).

template <int W, typename A>
RECBLR_HD void step_row(const A* __restrict a, const A* __restrict b, A* __restrict h, A (&state)[W]) {
  for (int k = 0; k < W; ++k) h[k] = state[k] = step(a[k], state[k], b[k]);
}
template <int W, typename A>
RECBLR_HD void adjoint_row(const A* __restrict dh, const A* __restrict a, const A* __restrict previous, A* __restrict da,
                           A* __restrict db, A (&g)[W], A (&next_a)[W]) {
  for (int k = 0; k < W; ++k) {
    db[k] = g[k] = step_adjoint(next_a[k], g[k], dh[k]);
    da[k] = factor_adjoint(g[k], previous[k]);
    next_a[k] = a[k];
  }
}
template <int W, typename A>
RECBLR_HD void summary_row(const A* __restrict a, const A* __restrict x, bool backward, A (&product)[W], A (&state)[W]) {
  if (backward) {
    for (int k = 0; k < W; ++k) summarise_adjoint(a[k], x[k], product[k], state[k]);
  } else {
    for (int k = 0; k < W; ++k) summarise(a[k], x[k], product[k], state[k]);
  }
}

template <int W>
struct Adjacent {
  template <typename T>
  static void run(const ScanForward<T>& w, std::int64_t index, std::int64_t c) {
    const Walk walk(w.extent, index);
    Accumulate<T> state[W];
    load_state(w.initial, index, c, state);
    const auto a = forward_stream(w.a, walk, c), b = forward_stream(w.b, walk, c);
    const auto h = forward_stream(w.h, walk, c);
    for (std::int64_t t = 0; t < walk.length; ++t) {
      const ReadRow<W, T> ra(a.step(t)), rb(b.step(t));
      WriteRow<W, T> rh(h.step(t));
      step_row(ra.at, rb.at, rh.at, state);
      rh.done();
    }
    if (walk.ends) store_state(w.final, walk.sequence, c, state);
  }

  template <typename T>
  static void run(const ScanBackward<T>& w, std::int64_t index, std::int64_t c) {
    using A = Accumulate<T>;
    const Walk walk(w.extent, index);
    A g[W], next_a[W];
    load_state(w.dfinal, index, c, g);
    for (int k = 0; k < W; ++k) next_a[k] = Constant<A>::one();
    const auto dh = backward_stream(w.dh, walk, c), a = backward_stream(w.a, walk, c), h = backward_stream(w.h, walk, c);
    const auto da = backward_stream(w.da, walk, c), db = backward_stream(w.db, walk, c);
    const auto adjoint = [&](std::int64_t t, const A* previous) __attribute__((always_inline)) {
      const ReadRow<W, T> rdh(dh.step(t)), ra(a.step(t));
      WriteRow<W, T> rda(da.step(t)), rdb(db.step(t));
      adjoint_row(rdh.at, ra.at, previous, rda.at, rdb.at, g, next_a);
      rda.done();
      rdb.done();
    };
    const std::int64_t after_rows = walk.begins ? walk.length - 1 : walk.length;  // steps that follow a row of h
    for (std::int64_t t = 0; t < after_rows; ++t) adjoint(t, ReadRow<W, T>(h.step(t + 1)).at);
    if (!walk.begins) return;
    if (walk.length > 0) {
      A initial[W];
      load_state(w.initial, walk.sequence, c, initial);
      adjoint(after_rows, initial);
      // Without an initial state the factor's derivative is zero, whatever g is.
      if (!w.initial.data)
        for (int k = 0; k < W; ++k) put(da.step(after_rows)[k], Constant<A>::zero());
    }
    for (int k = 0; k < W; ++k) g[k] = previous_adjoint(next_a[k], g[k]);
    store_state(w.dinitial, walk.sequence, c, g);
  }

  template <typename T>
  static void run(const ScanSummary<T>& w, std::int64_t index, std::int64_t c) {
    using A = Accumulate<T>;
    const Walk walk(w.extent, index);
    A product[W], state[W];
    for (int k = 0; k < W; ++k) product[k] = Constant<A>::one(), state[k] = Constant<A>::zero();
    const auto a = w.backward ? backward_stream(w.a, walk, c) : forward_stream(w.a, walk, c);
    const auto x = w.backward ? backward_stream(w.x, walk, c) : forward_stream(w.x, walk, c);
    for (std::int64_t t = 0; t < walk.length; ++t) {
      const ReadRow<W, T> ra(a.step(t)), rx(x.step(t));
      summary_row(ra.at, rx.at, w.backward, product, state);
    }
    store_state(w.product, index, c, product);
    store_state(w.from_zero, index, c, state);
  }
};
