// Included inside an instruction set's namespace, never alone (see recurrence-inl.h), after walk-inl.h.
//
// The scan for arrays whose neighbouring channels are not neighbours in memory.  It works on tiles of 8 steps by 8
// channels.  The tile of each array is brought into one order in registers and cache, for any strides.  If the steps of
// time are neighbours (channel first), a tile is eight short runs of memory and a transposition.  Every byte is still
// read once.

constexpr int kTile = 8;

template <typename A>
struct Tile {
  alignas(64) A at[kTile][kTile];  // [step][channel]
};

// Turns rows into columns.
template <typename A>
RECBLR_HD void transpose(Tile<A>& tile) {
  for (int j = 0; j < kTile; ++j) {
    for (int k = j + 1; k < kTile; ++k) {
      const A x = tile.at[j][k];
      tile.at[j][k] = tile.at[k][j];
      tile.at[k][j] = x;
    }
  }
}
#if __has_builtin(__builtin_shufflevector)  // GCC 12, Clang
// The same in three rounds.  Each round swaps halves of blocks, and the blocks double in length each time.
template <typename A>
RECBLR_HD void transpose_in_vectors(Tile<A>& tile) {
  typedef A Row __attribute__((vector_size(kTile * sizeof(A))));
  Row r[kTile], s[kTile];
  __builtin_memcpy(r, tile.at, sizeof r);
  for (int i = 0; i < kTile; i += 2) {
    s[i] = __builtin_shufflevector(r[i], r[i + 1], 0, 8, 2, 10, 4, 12, 6, 14);
    s[i + 1] = __builtin_shufflevector(r[i], r[i + 1], 1, 9, 3, 11, 5, 13, 7, 15);
  }
  for (int i = 0; i < kTile; ++i) {
    if (i & 2) continue;
    r[i] = __builtin_shufflevector(s[i], s[i + 2], 0, 1, 8, 9, 4, 5, 12, 13);
    r[i + 2] = __builtin_shufflevector(s[i], s[i + 2], 2, 3, 10, 11, 6, 7, 14, 15);
  }
  for (int i = 0; i < kTile / 2; ++i) {
    s[i] = __builtin_shufflevector(r[i], r[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
    s[i + 4] = __builtin_shufflevector(r[i], r[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
  }
  __builtin_memcpy(tile.at, s, sizeof s);
}
RECBLR_HD void transpose(Tile<float>& tile) { transpose_in_vectors(tile); }
RECBLR_HD void transpose(Tile<double>& tile) { transpose_in_vectors(tile); }
#endif

// Reverses the order of the steps.
template <typename A>
RECBLR_HD void flip(Tile<A>& tile) {
  for (int j = 0; j < kTile / 2; ++j) {
    for (int k = 0; k < kTile; ++k) {
      const A x = tile.at[j][k];
      tile.at[j][k] = tile.at[kTile - 1 - j][k];
      tile.at[kTile - 1 - j][k] = x;
    }
  }
}

// Whether the rows, or the columns, of a tile are contiguous in memory.
template <typename T>
RECBLR_HD bool rows_run(const Stream<T>& s) {
  return s.channel == 1;
}
template <typename T>
RECBLR_HD bool columns_run(const Stream<T>& s, std::int64_t steps) {
  return (s.time == 1 || s.time == -1) && steps == kTile;
}

template <typename T>
RECBLR_HD void load(const Stream<const T>& s, std::int64_t t, std::int64_t steps, Tile<Accumulate<T>>& tile) {
  const T* at = s.step(t);
  if (rows_run(s)) {
    for (std::int64_t j = 0; j < steps; ++j)
      for (int k = 0; k < kTile; ++k) tile.at[j][k] = widen(at[j * s.time + k]);
  } else if (columns_run(s, steps)) {
    const T* low = s.time < 0 ? at - (kTile - 1) : at;
    for (int k = 0; k < kTile; ++k)
      for (int j = 0; j < kTile; ++j) tile.at[k][j] = widen(low[k * s.channel + j]);
    transpose(tile);
    if (s.time < 0) flip(tile);
  } else {
    for (std::int64_t j = 0; j < steps; ++j)
      for (int k = 0; k < kTile; ++k) tile.at[j][k] = widen(at[j * s.time + k * s.channel]);
  }
}

template <typename T>
RECBLR_HD void store(const Stream<T>& s, std::int64_t t, std::int64_t steps, Tile<Accumulate<T>>& tile) {
  T* at = s.step(t);
  if (rows_run(s)) {
    for (std::int64_t j = 0; j < steps; ++j)
      for (int k = 0; k < kTile; ++k) put(at[j * s.time + k], tile.at[j][k]);
  } else if (columns_run(s, steps)) {
    if (s.time < 0) flip(tile);
    transpose(tile);
    T* low = s.time < 0 ? at - (kTile - 1) : at;
    for (int k = 0; k < kTile; ++k)
      for (int j = 0; j < kTile; ++j) put(low[k * s.channel + j], tile.at[k][j]);
  } else {
    for (std::int64_t j = 0; j < steps; ++j)
      for (int k = 0; k < kTile; ++k) put(at[j * s.time + k * s.channel], tile.at[j][k]);
  }
}

// Processes kTile channels from channel c on.
struct Tiled {
  template <typename T>
  static void run(const ScanForward<T>& w, std::int64_t index, std::int64_t c) {
    using A = Accumulate<T>;
    const Walk walk(w.extent, index);
    A state[kTile];
    load_state(w.initial, index, c, kTile, state);
    const auto a = forward_stream(w.a, walk, c), b = forward_stream(w.b, walk, c);
    const auto h = forward_stream(w.h, walk, c);
    Tile<A> ta = {}, tb = {};
    for (std::int64_t t = 0; t < walk.length; t += kTile) {
      const std::int64_t steps = fit(walk.length - t);
      load(a, t, steps, ta);
      load(b, t, steps, tb);
      for (std::int64_t j = 0; j < steps; ++j)
        for (int k = 0; k < kTile; ++k) tb.at[j][k] = state[k] = step(ta.at[j][k], state[k], tb.at[j][k]);
      store(h, t, steps, tb);
    }
    if (walk.ends) store_state(w.final, walk.sequence, c, kTile, state);
  }

  template <typename T>
  static void run(const ScanBackward<T>& w, std::int64_t index, std::int64_t c) {
    using A = Accumulate<T>;
    const Walk walk(w.extent, index);
    A g[kTile], next_a[kTile], initial[kTile];
    load_state(w.dfinal, index, c, kTile, g);
    load_state(w.initial, walk.sequence, c, kTile, initial);
    for (int k = 0; k < kTile; ++k) next_a[k] = Constant<A>::one();
    const auto dh = backward_stream(w.dh, walk, c), a = backward_stream(w.a, walk, c),
               h = backward_stream(w.h, walk, c);
    const auto da = backward_stream(w.da, walk, c), db = backward_stream(w.db, walk, c);
    Tile<A> tdh = {}, ta = {}, previous = {};
    for (std::int64_t t = 0; t < walk.length; t += kTile) {
      const std::int64_t steps = fit(walk.length - t);
      const bool reaches_initial = walk.begins && t + steps == walk.length;
      load(dh, t, steps, tdh);
      load(a, t, steps, ta);
      load(h, t + 1, reaches_initial ? steps - 1 : steps, previous);
      if (reaches_initial)
        for (int k = 0; k < kTile; ++k) previous.at[steps - 1][k] = initial[k];
      for (std::int64_t j = 0; j < steps; ++j) {
        for (int k = 0; k < kTile; ++k) {
          g[k] = step_adjoint(next_a[k], g[k], tdh.at[j][k]);
          next_a[k] = ta.at[j][k];
          tdh.at[j][k] = g[k];
          previous.at[j][k] = factor_adjoint(g[k], previous.at[j][k]);
        }
      }
      // Without an initial state, the derivative of the factor is zero for any g.
      if (reaches_initial && !w.initial.data)
        for (int k = 0; k < kTile; ++k) previous.at[steps - 1][k] = Constant<A>::zero();
      store(db, t, steps, tdh);
      store(da, t, steps, previous);
    }
    if (!walk.begins) return;
    for (int k = 0; k < kTile; ++k) g[k] = previous_adjoint(next_a[k], g[k]);
    store_state(w.dinitial, walk.sequence, c, kTile, g);
  }

  template <typename T>
  static void run(const ScanSummary<T>& w, std::int64_t index, std::int64_t c) {
    using A = Accumulate<T>;
    const Walk walk(w.extent, index);
    A product[kTile], state[kTile];
    for (int k = 0; k < kTile; ++k) product[k] = Constant<A>::one(), state[k] = Constant<A>::zero();
    const auto a = w.backward ? backward_stream(w.a, walk, c) : forward_stream(w.a, walk, c);
    const auto x = w.backward ? backward_stream(w.x, walk, c) : forward_stream(w.x, walk, c);
    Tile<A> ta = {}, tx = {};
    for (std::int64_t t = 0; t < walk.length; t += kTile) {
      const std::int64_t steps = fit(walk.length - t);
      load(a, t, steps, ta);
      load(x, t, steps, tx);
      for (std::int64_t j = 0; j < steps; ++j) {
        for (int k = 0; k < kTile; ++k) {
          if (w.backward)
            summarise_adjoint(ta.at[j][k], tx.at[j][k], product[k], state[k]);
          else
            summarise(ta.at[j][k], tx.at[j][k], product[k], state[k]);
        }
      }
    }
    store_state(w.product, index, c, kTile, product);
    store_state(w.from_zero, index, c, kTile, state);
  }

 private:
  static std::int64_t fit(std::int64_t steps) { return steps < kTile ? steps : kTile; }
};
