// The scan where neighbouring channels are neighbours in memory: W of them at a time, serial in time.  The
// loops over W have a constant count, so that the compiler turns them into vector code.
//
// Included inside an instruction set's namespace (see recurrence.h).

template <int W>
struct Adjacent {
  template <typename T>
  static void run(const ScanForward<T>& w, std::int64_t index, std::int64_t c) {
    const Walk walk(w.extent, index);
    Accumulate<T> state[W];
    load_state(w.initial, index, c, W, state);
    if (walk.length > 0) {
      const auto sa = forward_stream(w.a, walk, c), sb = forward_stream(w.b, walk, c);
      const auto sh = forward_stream(w.h, walk, c);
      const T *__restrict a = sa.at, *__restrict b = sb.at;
      T* __restrict h = sh.at;
      for (std::int64_t t = 0; t < walk.length; ++t) {
        for (int k = 0; k < W; ++k) {
          state[k] = step(widen(a[t * sa.time + k]), state[k], widen(b[t * sb.time + k]));
          h[t * sh.time + k] = narrow<T>(state[k]);
        }
      }
    }
    if (walk.ends) store_state(w.final, walk.sequence, c, W, state);
  }

  template <typename T>
  static void run(const ScanBackward<T>& w, std::int64_t index, std::int64_t c) {
    using A = Accumulate<T>;
    const Walk walk(w.extent, index);
    A g[W], next_a[W];
    load_state(w.dfinal, index, c, W, g);
    for (int k = 0; k < W; ++k) next_a[k] = Constant<A>::one();
    if (walk.length > 0) {
      const auto sdh = backward_stream(w.dh, walk, c), sa = backward_stream(w.a, walk, c), sh = backward_stream(w.h, walk, c);
      const auto sda = backward_stream(w.da, walk, c), sdb = backward_stream(w.db, walk, c);
      const T *__restrict dh = sdh.at, *__restrict a = sa.at, *__restrict h = sh.at;
      T *__restrict da = sda.at, *__restrict db = sdb.at;
      const std::int64_t last = walk.begins ? walk.length - 1 : walk.length;  // the steps before it follow a row of h
      for (std::int64_t t = 0; t < last; ++t) {
        for (int k = 0; k < W; ++k) {
          g[k] = step_adjoint(next_a[k], g[k], widen(dh[t * sdh.time + k]));
          next_a[k] = widen(a[t * sa.time + k]);
          db[t * sdb.time + k] = narrow<T>(g[k]);
          da[t * sda.time + k] = narrow<T>(factor_adjoint(g[k], widen(h[(t + 1) * sh.time + k])));
        }
      }
      if (walk.begins) {
        A initial[W];
        load_state(w.initial, walk.sequence, c, W, initial);
        for (int k = 0; k < W; ++k) {
          g[k] = step_adjoint(next_a[k], g[k], widen(dh[last * sdh.time + k]));
          next_a[k] = widen(a[last * sa.time + k]);
          db[last * sdb.time + k] = narrow<T>(g[k]);
          da[last * sda.time + k] = narrow<T>(w.initial.data ? factor_adjoint(g[k], initial[k]) : Constant<A>::zero());
        }
      }
    }
    if (!walk.begins) return;
    for (int k = 0; k < W; ++k) g[k] = previous_adjoint(next_a[k], g[k]);
    store_state(w.dinitial, walk.sequence, c, W, g);
  }

  template <typename T>
  static void run(const ScanSummary<T>& w, std::int64_t index, std::int64_t c) {
    using A = Accumulate<T>;
    const Walk walk(w.extent, index);
    A product[W], state[W];
    for (int k = 0; k < W; ++k) product[k] = Constant<A>::one(), state[k] = Constant<A>::zero();
    if (walk.length > 0) {
      const auto sa = w.backward ? backward_stream(w.a, walk, c) : forward_stream(w.a, walk, c);
      const auto sx = w.backward ? backward_stream(w.x, walk, c) : forward_stream(w.x, walk, c);
      const T *__restrict a = sa.at, *__restrict x = sx.at;
      if (w.backward) {
        for (std::int64_t t = 0; t < walk.length; ++t)
          for (int k = 0; k < W; ++k) summarise_adjoint(widen(a[t * sa.time + k]), widen(x[t * sx.time + k]), product[k], state[k]);
      } else {
        for (std::int64_t t = 0; t < walk.length; ++t)
          for (int k = 0; k < W; ++k) summarise(widen(a[t * sa.time + k]), widen(x[t * sx.time + k]), product[k], state[k]);
      }
    }
    store_state(w.product, index, c, W, product);
    store_state(w.from_zero, index, c, W, state);
  }
};
