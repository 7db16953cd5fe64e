// Included inside an instruction set's namespace, never alone (see core/recurrence-inl.h).
//
// The scan of blocks of items.  It is included once more for machines that multiply bytes in one instruction: the
// including file then defines RECBLR_TARGET, which lets a function use these instructions, and RECBLR_DOT_BYTES.

// --- products of bytes: unsigned bytes of the items, signed bytes of the query, four to a lane -----------------------
#if defined(RECBLR_DOT_BYTES)
constexpr int kWords = 1;  // for a group of a query
typedef Ints Quads;
RECBLR_TARGET RECBLR_HD Quads quads(Ints w) { return w; }
RECBLR_TARGET RECBLR_HD Ints dot(Ints sums, Quads x, const std::int32_t* words) {
  return (Ints)_mm512_dpbusd_epi32((__m512i)sums, (__m512i)x, (__m512i)all(words[0]));
}
#else
constexpr int kWords = 2;
struct Quads {
  Ints even, odd;  // 16 bits each
};
RECBLR_HD Quads quads(Ints w) { return {w & 0x00ff00ff, (w >> 8) & 0x00ff00ff}; }
RECBLR_HD Ints dot(Ints sums, Quads x, const std::int32_t* words) {
  return sums + dot_pairs(x.even, all(words[0])) + dot_pairs(x.odd, all(words[1]));
}
#endif

// The bytes of a query (a multiple of four of them) as dot() wants them.
RECBLR_HD void put_words(const signed char* bytes, std::int64_t groups, std::int32_t* words) {
  for (std::int64_t g = 0; g < groups; ++g) {
    const signed char* b = bytes + 4 * g;
    if (kWords == 1) {
      __builtin_memcpy(words + g, b, 4);
    } else {
      const std::int16_t halves[4] = {b[0], b[2], b[1], b[3]};
      __builtin_memcpy(words + 2 * g, halves, 8);
    }
  }
}

// --- p.c / t of some queries and neighbouring items, kTile vectors of items ------------------------------------------
template <int Q>
struct Products {
  Floats at[Q][kTile];
};

struct Int8 {
  static constexpr int kQueries = kTogether;
  template <int Q>
  static RECBLR_TARGET RECBLR_HD Products<Q> tile(const engine::Table& t, const unsigned char* block, std::int64_t,
                                                  std::int64_t item, const engine::Scanned* queries) {
    const std::int64_t groups = engine::groups_of(engine::Precision::int8, t.width);
    const unsigned char* scales = block + sizeof(engine::Bounds) + item * 4;
    const unsigned char* at = scales + engine::scale_bytes(engine::Precision::int8);
    Ints sums[Q][kTile];
    const std::int32_t* words[Q];
    for (int u = 0; u < Q; ++u) {
      words[u] = queries[u].probe->words;
      for (int v = 0; v < kTile; ++v) sums[u][v] = all(queries[u].probe->offset);
    }
#pragma GCC unroll 4
    for (std::int64_t g = 0; g < groups; ++g, at += engine::kBlock * 4) {
      Quads x[kTile];
      for (int v = 0; v < kTile; ++v) {
        x[v] = quads(load_ints(at + v * kVectorBytes));
      }
      for (int u = 0; u < Q; ++u)
        for (int v = 0; v < kTile; ++v) sums[u][v] = dot(sums[u][v], x[v], words[u] + kWords * g);
    }
    Products<Q> p;
    for (int v = 0; v < kTile; ++v) {
      const Floats scale = (Floats)load_ints(scales + v * kVectorBytes);
      for (int u = 0; u < Q; ++u) p.at[u][v] = __builtin_convertvector(sums[u][v], Floats) * scale;
    }
    return p;
  }
};

struct Bf16 {
  static constexpr int kQueries = kTogether;
  template <int Q>
  static RECBLR_TARGET RECBLR_HD Products<Q> tile(const engine::Table& t, const unsigned char* block, std::int64_t,
                                                  std::int64_t item, const engine::Scanned* queries) {
    const std::int64_t groups = engine::groups_of(engine::Precision::bfloat16, t.width);
    const unsigned char* at = block + sizeof(engine::Bounds) + item * 4;
    Products<Q> p;
    for (int u = 0; u < Q; ++u)
      for (int v = 0; v < kTile; ++v) p.at[u][v] = Floats{};
#pragma GCC unroll 4
    for (std::int64_t g = 0; g < groups; ++g, at += engine::kBlock * 4) {
      Floats low[kTile], high[kTile];
      for (int v = 0; v < kTile; ++v) {
        const Ints w = load_ints(at + v * kVectorBytes);
        low[v] = from_bits(w << 16), high[v] = from_bits(w & -65536);
      }
      for (int u = 0; u < Q; ++u) {
        const std::int32_t* words = queries[u].probe->words + 2 * g;
        const Floats x = from_bits(all(words[0])), y = from_bits(all(words[1]));
        for (int v = 0; v < kTile; ++v) p.at[u][v] = multiply_add(y, high[v], multiply_add(x, low[v], p.at[u][v]));
      }
    }
    return p;
  }
};

struct Float32 {
  static constexpr int kQueries = 4 * kTogether;  // they share the transposed rows
  template <int Q>
  static RECBLR_TARGET RECBLR_HD Products<Q> tile(const engine::Table& t, const unsigned char*, std::int64_t index,
                                                  std::int64_t item, const engine::Scanned* queries) {
    const float* vectors[Q];
    for (int u = 0; u < Q; ++u) vectors[u] = queries[u].probe->vector;
    Products<Q> p;
    for (int v = 0; v < kTile; ++v) {
      const float* rows[kLanes<float>];
      const std::int64_t first = index * engine::kBlock + item + v * kLanes<float>;
      prefetch(t.rows + (first + kLanes<float>)*t.width, kLanes<float> * t.width);  // those that come next
      for (int k = 0; k < kLanes<float>; ++k) {
        const std::int64_t row = first + k;
        rows[k] = t.rows + (row < t.count ? row : t.count - 1) * t.width;
      }
      Floats sums[Q];
      exact_scores<Q>(rows, t.width, vectors, sums);
      for (int u = 0; u < Q; ++u) p.at[u][v] = sums[u];
    }
    return p;
  }
};

// The largest difference between a product and a score, for each panel of a block.
typedef float Panels __attribute__((vector_size(engine::kBlock / engine::kPanel * 4)));
template <typename Kind>
RECBLR_TARGET RECBLR_HD Panels bounds(const unsigned char* block, const engine::Probe& probe) {
  Panels error, norm;
  __builtin_memcpy(&error, block, sizeof error);
  __builtin_memcpy(&norm, block + sizeof error, sizeof norm);
  return probe.per_error * error + probe.per_norm * norm;
}
template <>
RECBLR_TARGET RECBLR_HD Panels bounds<Float32>(const unsigned char*, const engine::Probe&) {
  return Panels{};
}

// --- the scans ------------------------------------------------------------------------------------------------------
RECBLR_HD void survive(engine::Scanned& query, std::int64_t first, std::uint64_t bits) {
  for (; bits; bits &= bits - 1)
    query.survivors[query.num_survivors++] = static_cast<std::int32_t>(first + __builtin_ctzll(bits));
}

template <typename Kind, int Q>
RECBLR_TARGET RECBLR_HD void scan_block(const engine::Table& t, const unsigned char* block, std::int64_t index,
                                        engine::Scanned* queries) {
  float cuts[Q][engine::kBlock / engine::kPanel];
  for (int u = 0; u < Q; ++u) {
    const Panels cut = queries[u].least - bounds<Kind>(block, *queries[u].probe);
    __builtin_memcpy(cuts[u], &cut, sizeof cut);
  }
  for (std::int64_t item = 0; item < engine::kBlock; item += kTileItems) {
    const Products<Q> p = Kind::template tile<Q>(t, block, index, item, queries);
    std::uint64_t bits[Q], any = 0;
#pragma GCC unroll 8
    for (int u = 0; u < Q; ++u) {
      bits[u] = 0;
#pragma GCC unroll 8
      for (int v = 0; v < kTile; ++v) {
        const std::int64_t lane = v * kLanes<float>;
        bits[u] |= not_below(p.at[u][v], repeat(cuts[u][(item + lane) / engine::kPanel])) << lane;
      }
      any |= bits[u];
    }
    if (__builtin_expect(any == 0, 1)) continue;
    const std::int64_t first = index * engine::kBlock + item, left = t.count - first;
    const std::uint64_t here = left >= 64 ? ~std::uint64_t{0} : left > 0 ? (std::uint64_t{1} << left) - 1 : 0;
    for (int u = 0; u < Q; ++u) survive(queries[u], t.first + first, bits[u] & here);
  }
}

template <typename Kind>
RECBLR_TARGET void scan(const engine::Scan& w, const Units& blocks) {
  const std::int64_t bytes = engine::block_bytes(w.table.precision, w.table.width);
  for (std::int64_t u = 0; u < w.count; ++u) {
    const engine::Probe& probe = *w.queries[u].probe;
    w.queries[u].least = lowered(w.queries[u].least / probe.unit, probe.slack);
  }
  for (std::int64_t b = blocks.begin; b < blocks.end; ++b) {
    const unsigned char* block = w.table.blocks + b * bytes;
    std::int64_t u = 0;
    for (; u + Kind::kQueries <= w.count; u += Kind::kQueries)
      scan_block<Kind, Kind::kQueries>(w.table, block, b, w.queries + u);
    for (; u < w.count; ++u) scan_block<Kind, 1>(w.table, block, b, w.queries + u);
  }
}

template <typename Kind>
RECBLR_TARGET void first_scan(const engine::FirstScan& w, const Units& blocks) {
  const std::int64_t bytes = engine::block_bytes(w.table.precision, w.table.width);
  const engine::Probe& probe = *w.query->probe;
  alignas(64) float upper[engine::kChunk];
  Floats most[kBlockVectors];  // the largest lower bounds
  for (int i = 0; i < kBlockVectors; ++i) most[i] = all(-__builtin_inff());
  for (std::int64_t b = blocks.begin; b < blocks.end; ++b) {
    const unsigned char* block = w.table.blocks + b * bytes;
    const Panels bound = bounds<Kind>(block, probe);
    const std::uint64_t left_out = w.left_out[b - blocks.begin];
    float* at = upper + (b - blocks.begin) * engine::kBlock;
    for (std::int64_t item = 0; item < engine::kBlock; item += kTileItems) {
      const Products<1> p = Kind::template tile<1>(w.table, block, b, item, w.query);
      for (int v = 0; v < kTile; ++v) {
        const std::int64_t lane = item + v * kLanes<float>;
        const Floats f = p.at[0][v], room = repeat(bound[lane / engine::kPanel]);
        store_lanes(at + lane, f + room);
        const Floats lower = where(left_out >> lane, all(-__builtin_inff()), f - room);
        Floats& m = most[lane / kLanes<float>];
        m = m < lower ? lower : m;
      }
    }
  }
  const float least = w.k <= engine::kBlock ? lowered(kth_largest(most, w.k), 2 * probe.slack) : -__builtin_inff();
  for (std::int64_t b = 0; b < blocks.end - blocks.begin; ++b) {
    std::uint64_t bits = 0;
    for (int v = 0; v < kBlockVectors; ++v) {
      const std::int64_t lane = v * kLanes<float>;
      bits |= not_below(load_lanes(upper + b * engine::kBlock + lane), repeat(least)) << lane;
    }
    survive(*w.query, w.table.first + (blocks.begin + b) * engine::kBlock, bits & ~w.left_out[b]);
  }
}
