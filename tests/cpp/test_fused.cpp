// The fused kernels, shared among threads as tasks.  The bits must be those of one thread, for every order of tasks and
// every element type, for widths that no vector divides, packed and padded.  The final state is compared with a loop in
// double precision.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

#include "core/bdlru.h"
#include "core/causal_conv1d.h"
#include "numbers.h"

namespace {

using namespace recblr;
using recblr_test::exact;
using recblr_test::Near;

int failures = 0;

// Runs every task on the given number of threads.  The threads take tasks in turn, beginning with the last task.  If
// RECBLR_RACE is set, every thread runs every task, so that a test shows that ThreadSanitizer finds races.
template <typename F>
void run(const Tasks& tasks, int threads, const F& f) {
  static const bool race = std::getenv("RECBLR_RACE");
  std::vector<std::thread> pool;
  for (int n = 0; n < threads; ++n)
    pool.emplace_back([&, n] {
      for (std::int64_t i = tasks.count() - 1 - (race ? 0 : n); i >= 0; i -= race ? 1 : threads) f(tasks[i]);
    });
  for (std::thread& thread : pool) thread.join();
}

template <typename T>
struct Problem {
  using A = Accumulate<T>;
  std::int64_t rows, channels, width = 4;
  std::vector<std::int64_t> offsets;
  std::vector<T> x, gates, z, dy;
  std::vector<A> decay, scale, taps, bias;

  Problem(std::vector<std::int64_t> ends, std::int64_t channels, std::mt19937& random)
      : rows(ends.back()), channels(channels), offsets(ends) {
    std::uniform_int_distribution<int> any(-12, 12);
    const auto draw = [&](auto& v, std::int64_t n) {
      for (std::int64_t i = 0; i < n; ++i)
        v.push_back(Near<std::decay_t<decltype(v[0])>>::to(any(random) / 4.0));  // exact in 16 bits
    };
    draw(x, rows * channels), draw(gates, 2 * rows * channels), draw(z, rows * channels), draw(dy, rows * channels);
    draw(decay, channels), draw(scale, rows), draw(taps, width * channels), draw(bias, channels);
    for (A& d : decay) d = std::fabs(d) / 16;
    for (A& s : scale) s = std::fabs(s);
  }
  Extent extent() const {
    return Extent::packed(static_cast<std::int64_t>(offsets.size()) - 1, rows, channels, offsets.data());
  }
  template <typename U>
  View<U> view(U* data, std::int64_t row) const {
    return {data, 0, row, 1};
  }
};

// All outputs of both passes of both operators.
template <typename T>
struct Results {
  using A = Accumulate<T>;
  std::vector<T> y, dx, dgates, dz, conv, dconv;
  std::vector<A> final, states, dinitial, dscale, past, dpast;
  std::vector<double> ddecay, dtaps, dbias;

  Results(const Problem<T>& p, int threads) {
    const auto size = [](std::int64_t n) { return static_cast<std::size_t>(n); };
    const Extent e = p.extent();
    const std::int64_t n = p.rows * p.channels, s = e.sequences * p.channels;
    Tasks tasks(e), whole(e);
    whole.join_channels();
    for (auto* v : {&y, &dx, &dz, &conv, &dconv}) v->resize(size(n));
    dgates.resize(size(2 * n)), final.resize(size(s)), dinitial.resize(size(s)), dscale.resize(size(p.rows));
    states.resize(size((p.rows / kStateRows + 1) * p.channels)), past.resize(size(s * (p.width - 1))),
        dpast.resize(past.size());
    ddecay.resize(size(tasks.runs() * p.channels)), dbias.resize(ddecay.size()),
        dtaps.resize(ddecay.size() * size(p.width));

    BdlruForward<T> f{};
    f.in.extent = e, f.in.x = p.view(p.x.data(), p.channels), f.in.gates = p.view(p.gates.data(), 2 * p.channels);
    f.in.z = p.view(p.z.data(), p.channels), f.in.decay = p.decay.data(), f.in.scale = {p.scale.data(), 0, 1, 1};
    f.y = p.view(y.data(), p.channels), f.final = final.data(), f.states = states.data();
    run(tasks, threads, [&](const Task& task) { compute(f, task); });
    BdlruBackward<T> b{};
    b.in = f.in, b.dy = p.view(p.dy.data(), p.channels), b.states = states.data();
    b.dx = p.view(dx.data(), p.channels), b.dgates = p.view(dgates.data(), 2 * p.channels),
    b.dz = p.view(dz.data(), p.channels);
    b.dinitial = dinitial.data(), b.dscale = dscale.data(), b.ddecay = ddecay.data();
    run(whole, threads, [&](const Task& task) { compute(b, task); });

    ConvForward<T> cf{};
    cf.in.extent = e, cf.in.x = f.in.x, cf.in.width = p.width, cf.in.taps = p.taps.data(), cf.in.bias = p.bias.data(),
    cf.in.silu = true;
    cf.y = p.view(conv.data(), p.channels), cf.final = past.data();
    run(tasks, threads, [&](const Task& task) { compute(cf, task); });
    ConvBackward<T> cb{};
    cb.in = cf.in, cb.dy = b.dy, cb.dx = p.view(dconv.data(), p.channels), cb.dinitial = dpast.data();
    cb.dtaps = dtaps.data(), cb.dbias = dbias.data();
    run(tasks, threads, [&](const Task& task) { compute(cb, task); });
  }
};

template <typename V>
void expect_same(const std::vector<V>& a, const std::vector<V>& b, const char* what, std::int64_t channels) {
  if (a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(V)) == 0)) return;
  std::printf("%s of %zu bytes, %lld channels: bits depend on threads\n", what, sizeof(V),
              static_cast<long long>(channels));
  ++failures;
}

template <typename T>
void check(const std::vector<std::int64_t>& offsets, std::int64_t channels, std::mt19937& random) {
  using A = Accumulate<T>;
  const Problem<T> p(offsets, channels, random);
  const Results<T> alone(p, 1), many(p, 3);
#define RECBLR_SAME(member) expect_same(alone.member, many.member, #member, channels)
  RECBLR_SAME(y);
  RECBLR_SAME(dx);
  RECBLR_SAME(dgates);
  RECBLR_SAME(dz);
  RECBLR_SAME(conv);
  RECBLR_SAME(dconv);
  RECBLR_SAME(final);
  RECBLR_SAME(dinitial);
  RECBLR_SAME(dscale);
  RECBLR_SAME(past);
  RECBLR_SAME(dpast);
  RECBLR_SAME(ddecay);
  RECBLR_SAME(dtaps);
  RECBLR_SAME(dbias);

  const double tolerance = sizeof(A) == 4 ? 2e-5 : 1e-12;
  const auto sigmoid = [](double v) { return 1 / (1 + std::exp(-v)); };
  for (std::size_t s = 0; s + 1 < offsets.size(); ++s) {
    for (std::int64_t c = 0; c < channels; ++c) {
      double h = 0;
      for (std::int64_t row = offsets[s]; row < offsets[s + 1]; ++row) {
        const auto at = [&](const std::vector<T>& v, std::int64_t i) {
          return exact(v[static_cast<std::size_t>(i)]).real();
        };
        const double r = at(p.gates, 2 * row * channels + c), i = at(p.gates, (2 * row + 1) * channels + c);
        const double u = static_cast<double>(p.decay[static_cast<std::size_t>(c)]) * sigmoid(r) *
                         static_cast<double>(p.scale[static_cast<std::size_t>(row)]);
        h = std::exp(-u) * h + std::sqrt(-std::expm1(-2 * u)) * sigmoid(i) * at(p.x, row * channels + c);
      }
      const double got =
          static_cast<double>(alone.final[s * static_cast<std::size_t>(channels) + static_cast<std::size_t>(c)]);
      if (std::fabs(got - h) <= tolerance * (1 + std::fabs(h))) continue;
      std::printf("final[%zu, %lld] of %zu bytes is %.9g, not %.9g\n", s, static_cast<long long>(c), sizeof(T), got, h);
      ++failures;
      return;
    }
  }
}

}  // namespace

int main() {
  if (const char* error = isa_error()) {
    std::printf("skipped: %s\n", error);
    return 77;
  }
  std::mt19937 random(1);
  int cases = 0;
  for (std::int64_t channels : {1, 7, 16, 33, 130, 300})
    for (const std::vector<std::int64_t>& offsets :
         {std::vector<std::int64_t>{0, 1}, {0, 0, 3, 70}, {0, 600, 601, 1300, 1300}}) {
#define RECBLR_CHECK(T) check<T>(offsets, channels, random), ++cases;
      RECBLR_REAL_TYPES(RECBLR_CHECK)
    }
  std::printf("fused kernels on %s: %d cases, %d failures\n", isa_name(isa()), cases, failures);
  return failures ? 1 : 0;
}
