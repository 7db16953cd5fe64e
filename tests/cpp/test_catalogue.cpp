// The catalogue of the engine, against a plain loop over all items: the same items and the same bits of scores, for
// every precision of the scanned copy, number of threads and number of queries.  Among the cases are equal scores on
// purpose, uneven norms, rows of zeros, every filter, items that were appended or retired, and rows for which the bound
// of the scan is tight.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <random>
#include <vector>

#include "engine/catalogue.h"

namespace {

using namespace recblr::engine;
using recblr::isa;
using recblr::isa_error;
using recblr::isa_name;

int failures = 0, checks = 0;
const char* const kNames[] = {"float32", "bfloat16", "int8"};
constexpr Precision kPrecisions[] = {Precision::float32, Precision::bfloat16, Precision::int8};
Pool alone(1), several(3);

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

// Whether the kernels round multiply_add once.
bool fused() {
  static const bool once = [] {
    const float row[] = {-1 - 0x1p-11f, 1 + 0x1p-12f}, vector[] = {1, 1 + 0x1p-12f};
    const std::int32_t item = 0;
    float score;
    Catalogue(row, 1, 2, Precision::float32).scores(vector, &item, 1, &score);
    return score > 0;
  }();
  return once;
}

float score_of(const float* vector, const float* row, std::int64_t width) {
  float sum = 0;
  for (std::int64_t d = 0; d < width; ++d) {
    if (fused()) {
      sum = std::fma(vector[d], row[d], sum);
    } else {
      const volatile float product = vector[d] * row[d];
      sum += product;
    }
  }
  return sum;
}

bool in(const std::int32_t* list, std::int64_t count, std::int32_t item) {
  return std::find(list, list + count, item) != list + count;
}

// Scores that the loop below uses: its own, or those of the catalogue for numbers where rounding differs (denormals).
enum class Scores { plain, of_catalogue };

std::vector<Scored> expected(const Catalogue& c, const Query& q, std::int64_t k, Scores from) {
  std::vector<char> left_out(at(c.size())), biased(at(c.size()));
  for (std::int64_t i = 0; i < q.num_seen; ++i) (q.mask_seen ? left_out : biased)[at(q.seen[i])] = 1;
  for (std::int64_t i = 0; i < q.num_excluded; ++i) left_out[at(q.excluded[i])] = 1;
  std::vector<Scored> all;
  for (std::int32_t item = 0; item < c.size(); ++item) {
    if (left_out[at(item)] || c.retired(item) || (q.allowed && !in(q.allowed, q.num_allowed, item))) continue;
    float score;
    if (from == Scores::of_catalogue) {
      c.scores(q.vector, &item, 1, &score);
    } else {
      score = score_of(q.vector, c.row(item), c.width());
    }
    all.push_back({item, biased[at(item)] ? score + q.seen_bias : score});
  }
  const auto key = [](float x) { return std::isnan(x) ? 1 : 0; };
  std::sort(all.begin(), all.end(), [&](const Scored& a, const Scored& b) {
    if (key(a.score) != key(b.score)) return key(a.score) < key(b.score);
    if (!std::isnan(a.score) && a.score != b.score) return a.score > b.score;
    return a.item < b.item;
  });
  all.resize(at(std::min(k, static_cast<std::int64_t>(all.size()))));
  return all;
}

void check(const char* what, const Catalogue& c, const std::vector<Query>& queries, std::int64_t k,
           Scores from = Scores::plain) {
  const std::int64_t count = static_cast<std::int64_t>(queries.size());
  std::vector<std::vector<Scored>> wanted;
  for (const Query& q : queries) wanted.push_back(expected(c, q, k, from));
  for (Pool* pool : {&alone, &several}) {
    for (const std::int64_t batch : {std::int64_t{1}, count}) {
      std::vector<Scored> out(at(count * k));
      std::vector<std::int64_t> found(at(count));
      for (std::int64_t n = 0; n < count; n += batch)
        c.best(queries.data() + n, batch, k, out.data() + n * k, found.data() + n, *pool);
      for (std::int64_t n = 0; n < count; ++n) {
        ++checks;
        const std::vector<Scored>& want = wanted[at(n)];
        const std::int64_t size = static_cast<std::int64_t>(want.size());
        std::int64_t i = 0;
        if (found[at(n)] == size)
          while (i < size && std::memcmp(&out[at(n * k + i)], &want[at(i)], sizeof(Scored)) == 0) ++i;
        if (found[at(n)] == size && i == size) continue;
        ++failures;
        const Scored got = found[at(n)] > i ? out[at(n * k + i)] : Scored{-1, 0};
        const Scored right = size > i ? want[at(i)] : Scored{-1, 0};
        std::printf(
            "%s: %s, %lld x %lld, k %lld, %d threads, batch %lld, query %lld: place %lld of %lld (found %lld) is "
            "item %d %.9g, not %d %.9g\n",
            what, kNames[static_cast<int>(c.precision())], (long long)c.size(), (long long)c.width(), (long long)k,
            pool->threads(), (long long)batch, (long long)n, (long long)i, (long long)size, (long long)found[at(n)],
            got.item, double(got.score), right.item, double(right.score));
        return;
      }
      if (count == 1) break;
    }
  }
}

struct Random {
  std::mt19937 bits{1};

  float normal() { return std::normal_distribution<float>()(bits); }
  int below(std::int64_t n) { return static_cast<int>(std::uniform_int_distribution<std::int64_t>(0, n - 1)(bits)); }
  bool chance(double p) { return std::uniform_real_distribution<>()(bits) < p; }
};

enum class Rows { even, uneven, coarse };  // coarse: numbers of a few values, so that many scores are equal

std::vector<float> draw_rows(Rows kind, std::int64_t count, std::int64_t width, Random& random) {
  std::vector<float> rows(at(count * width));
  for (std::int64_t i = 0; i < count; ++i) {
    const float norm = kind == Rows::uneven ? std::exp(4 * random.normal()) : 1;
    const bool zero = random.chance(.03);
    for (std::int64_t d = 0; d < width; ++d)
      rows[at(i * width + d)] = zero                   ? 0.0f
                                : kind == Rows::coarse ? static_cast<float>(random.below(3) - 1)
                                                       : norm * random.normal();
  }
  return rows;
}

// Queries with filters of every kind, and the memory behind them.
struct Queries {
  std::vector<std::vector<float>> vectors;
  std::vector<std::vector<std::int32_t>> lists;
  std::vector<Query> all;

  const std::vector<std::int32_t>& list(std::int64_t count, double share, Random& random) {
    std::vector<std::int32_t> items;
    for (std::int32_t i = 0; i < count; ++i)
      if (random.chance(share)) items.push_back(i);
    lists.push_back(items);
    return lists.back();
  }

  Queries(std::int64_t number, Rows kind, std::int64_t count, std::int64_t width, Random& random) {
    vectors.reserve(at(number)), lists.reserve(at(3 * number));
    for (std::int64_t n = 0; n < number; ++n) {
      std::vector<float> v(at(width));
      for (float& x : v) x = kind == Rows::coarse ? static_cast<float>(random.below(3) - 1) : random.normal();
      if (n % 7 == 6) std::fill(v.begin(), v.end(), 0.0f);
      vectors.push_back(v);
      Query q;
      q.vector = vectors.back().data();
      if (n % 2 == 0) {
        const auto& seen = list(count, n % 12 == 4 ? .95 : .1, random);
        q.seen = seen.data(), q.num_seen = static_cast<std::int64_t>(seen.size());
        q.mask_seen = n % 4 == 0;
        q.seen_bias = n % 8 == 2 ? 1.5f : -1.5f;
      }
      if (n % 3 == 0) {
        const auto& excluded = list(count, n % 9 == 3 ? 1 : .2, random);
        q.excluded = excluded.data(), q.num_excluded = static_cast<std::int64_t>(excluded.size());
      }
      if (n % 5 == 4) {
        const auto& allowed = list(count, .3, random);
        static const std::int32_t nothing = 0;
        q.allowed = allowed.empty() ? &nothing : allowed.data(),
        q.num_allowed = static_cast<std::int64_t>(allowed.size());
      }
      all.push_back(q);
    }
  }
};

void random_shapes() {
  Random random;
  for (const std::int64_t width : {1, 2, 5, 16, 31, 50, 64, 130}) {
    for (const std::int64_t count : {1, 15, 63, 64, 65, 700, 4097, 20000}) {
      if (count > 5000 && width != 5 && width != 64) continue;
      const Rows kind = static_cast<Rows>(random.below(3));
      const std::vector<float> rows = draw_rows(kind, count, width, random);
      const std::vector<float> more = draw_rows(kind, 70, width, random);
      const Queries queries(count == 65 ? 70 : 12, kind, count, width, random);
      const Queries later(12, kind, count + 70, width, random);
      for (const Precision p : kPrecisions) {
        Catalogue c(rows.data(), count, width, p);
        for (const std::int64_t k : {std::int64_t{1}, std::int64_t{10}, std::int64_t{100}, count})
          if (k <= count) check("random", c, queries.all, k);
        for (std::int64_t n = 0; n < count / 3; ++n) c.retire((n * 37 + 11) % static_cast<std::int32_t>(count));
        check("retired", c, queries.all, std::min<std::int64_t>(count, 10));
        c.append(more.data(), 1);
        c.append(more.data() + width, 68);
        c.retire(static_cast<std::int32_t>(count) + 2);
        c.append(more.data() + 69 * width, 1);
        if (!c.retired(static_cast<std::int32_t>(count) + 2) || c.retired(static_cast<std::int32_t>(count) + 69))
          ++failures;
        check("appended", c, later.all, std::min<std::int64_t>(count, 10));
      }
    }
  }
}

// Many chunks, so that threads divide the items of one query, and what they tell each other decides.
void many_chunks() {
  Random random;
  const std::int64_t count = 150000, width = 6;
  for (const Rows kind : {Rows::even, Rows::uneven, Rows::coarse}) {
    const std::vector<float> rows = draw_rows(kind, count, width, random);
    const Queries queries(7, kind, count, width, random);
    for (const Precision p : kPrecisions) {
      const Catalogue c(rows.data(), count, width, p);
      for (const std::int64_t k : {1, 10, 300}) check("many chunks", c, queries.all, k);
    }
  }
}

// One item whose score exceeds its product in the scan by nearly all of the bound, and rivals whose scores are smaller
// than its own by a thousandth of the bound.  A scan that claims 1 % less drops the item.
void tight(const char* what, Precision precision, const std::vector<float>& vector, const std::vector<float>& row,
           double bound) {
  const std::int64_t width = static_cast<std::int64_t>(vector.size()), count = 9000;
  const float score = score_of(vector.data(), row.data(), width);
  for (const std::int64_t place : {100, 3000, 4200, 8999}) {
    std::vector<float> rows(at(count * width));
    for (std::int64_t n = 0; n < 3; ++n)
      rows[at(n * width)] = static_cast<float>((double(score) - bound * .001 * double(n + 1)) / double(vector[0]));
    std::copy(row.begin(), row.end(), rows.begin() + place * width);
    const Catalogue c(rows.data(), count, width, precision);
    Query q;
    q.vector = vector.data();
    for (const std::int64_t k : {1, 3}) {
      const std::vector<Scored> want = expected(c, q, k, Scores::plain);
      if (want[0].item != place || (k == 3 && want[2].item != 1)) {
        std::printf("%s: the case is not as it was meant\n", what);
        ++failures;
      }
      check(what, c, {q}, k);
    }
  }
}

void tight_bounds() {
  Random random;
  const std::int64_t width = 64;
  std::vector<float> vector(at(width)), row(at(width));
  // The row lies between numbers that its copy can have, each time on the side of the vector.
  for (int repeat = 0; repeat < 4; ++repeat) {
    for (std::int64_t d = 0; d < width; ++d) {
      vector[at(d)] = random.chance(.5) ? 1.0f : -1.0f;
      row[at(d)] = static_cast<float>(random.below(200) - 100) + .49f * vector[at(d)];
    }
    vector[0] = 1, row[0] = 127;
    if (score_of(vector.data(), row.data(), width) < 100)
      for (std::int64_t d = 1; d < width; ++d) row[at(d)] += 10 * vector[at(d)];
    tight("rows of bytes", Precision::int8, vector, row, .49 * 8);
    for (std::int64_t d = 0; d < width; ++d)
      row[at(d)] = vector[at(d)] * (1 + static_cast<float>(random.below(100)) / 128 + .49f / 128);
    tight("rows of bfloat16", Precision::bfloat16, vector, row, .49 * 8 / 128);
    // The vector lies between numbers that its copy can have, each time on the side of the row.
    for (std::int64_t d = 0; d < width; ++d) {
      row[at(d)] = random.chance(.5) ? 127.0f : -127.0f;
      vector[at(d)] = static_cast<float>(random.below(100) - 40) * (row[at(d)] > 0 ? 1.0f : -1.0f);
      vector[at(d)] += .49f * (row[at(d)] > 0 ? 1.0f : -1.0f);
    }
    vector[0] = 127, row[0] = 127;
    tight("vectors of bytes", Precision::int8, vector, row, .49 * 8 * 127);
  }
  // Copies without error, but a score whose roundings all go up: each 3 counts as 4 beside a number above 2^24.
  const std::int64_t large = 1100, small = 500;
  std::vector<float> v(at(2 * large + small)), r(v.size());
  for (std::int64_t d = 0; d < 2 * large + small; ++d) {
    const bool between = d >= large && d < large + small;
    v[at(d)] = between ? 1.0f : 127.0f;
    r[at(d)] = between ? 3.0f : d < large ? 127.0f : -127.0f;
  }
  v[0] = 127, r[0] = 124;  // 127 * 124 and 1099 * 127 * 127 add up to a multiple of 4
  v[1] = 127, r[1] = 127;
  const float got = score_of(v.data(), r.data(), 2 * large + small);
  double exact = 0;
  for (std::size_t d = 0; d < v.size(); ++d) exact += double(v[d]) * double(r[d]);
  if (!(double(got) > exact + 300))
    std::printf("roundings: %.9g is not far above %.9g\n", double(got), exact), ++failures;
  tight("roundings", Precision::int8, v, r, 100);
  tight("roundings", Precision::bfloat16, v, r, 100);
}

// Numbers near overflow and underflow, and rows wider than the sums of bytes allow.
void extremes() {
  Random random;
  for (const float size : {1e-38f, 1e-20f, 1e-12f, 1e12f, 1e18f, 1e30f}) {
    const std::int64_t count = 5000, width = 7;
    std::vector<float> rows = draw_rows(Rows::uneven, count, width, random);
    for (float& x : rows) x *= size;
    for (float& x : rows) x = std::isfinite(x) ? x : 3e38f;
    for (const float factor : {1e-30f, 1e-6f, 1.0f, 1e10f, 1e25f}) {
      Queries queries(6, Rows::even, count, width, random);
      for (std::vector<float>& v : queries.vectors)
        for (float& x : v) x *= factor;
      for (const Precision p : kPrecisions)
        check("extremes", Catalogue(rows.data(), count, width, p), queries.all, 20, Scores::of_catalogue);
    }
  }
  const std::int64_t width = kWidest + 3;
  const std::vector<float> rows = draw_rows(Rows::even, 128, width, random);
  const Queries queries(3, Rows::even, 128, width, random);
  for (const Precision p : kPrecisions) {
    const Catalogue wide(rows.data(), 128, width, p);
    check("wide", wide, queries.all, 10);
    const Catalogue widest(rows.data(), 128, kWidest, p);
    check("widest", widest, queries.all, 10);
    const double share = static_cast<double>(widest.copy_bytes()) / (128 * 4.0 * kWidest);
    const double most = p == Precision::float32 ? 0 : p == Precision::bfloat16 ? .51 : .26;
    if (share > most) std::printf("a copy is %.3f of the rows\n", share), ++failures;
  }
}

}  // namespace

int main() {
  if (const char* error = isa_error()) {
    std::printf("skipped: %s\n", error);
    return 77;
  }
  tight_bounds();
  random_shapes();
  many_chunks();
  extremes();
  std::printf("catalogue on %s: %d answers, %d failures\n", isa_name(isa()), checks, failures);
  return failures ? 1 : 0;
}
