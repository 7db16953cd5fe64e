// Runs the kernels of the causal convolution on the host and compares them with sums in double precision: every element
// type, width and argument, packed and padded, every kind of layout, tiles of all sizes, in three orders of threads.
#include <sys/mman.h>

#include <algorithm>

#include "check.h"

#if defined(RECBLR_REDUCED)  // mutants.py
#undef RECBLR_REAL_TYPES
#define RECBLR_REAL_TYPES(macro) macro(float)
#endif
#include "causal_conv1d.cu"

namespace {

using namespace check;
using recblr::ConvBackward;
using recblr::ConvForward;
using recblr::ConvInputs;
using recblr::Extent;

struct Case {
  std::int64_t sequences, length, channels, width, tile;  // tile 0: the launcher's choice
  bool packed;
  bool silu = true, bias = true, initial = true, dfinal = true, dy = true,
       states = true;  // states: whether final and dinitial are requested
  Layout layout = {};
};

// Draws offsets of sequences with up to 2 * length rows; many are empty.  Some offsets are out of bounds and out of
// order, and some rows belong to no sequence.
std::vector<std::int64_t> draw_offsets(const Case& c, std::mt19937& random, std::int64_t& rows) {
  std::uniform_int_distribution<std::int64_t> length(0, 2 * c.length), coin(0, 3);
  std::vector<std::int64_t> offsets{0};
  for (std::int64_t s = 0; s < c.sequences; ++s)
    offsets.push_back(offsets.back() + (coin(random) ? length(random) : 0));
  rows = offsets.back();
  if (coin(random) > 1 && c.sequences > 0) return offsets;
  const std::int64_t before = coin(random), behind = coin(random);
  for (std::int64_t& at : offsets) at += before;
  rows += before + behind;
  if (coin(random) > 1) {
    std::uniform_int_distribution<std::size_t> one(0, offsets.size() - 1);
    offsets[one(random)] = std::uniform_int_distribution<std::int64_t>(-rows - 9, 2 * rows + 9)(random);
  }
  return offsets;
}

double sigmoid_of(double x) { return 1 / (1 + std::exp(-x)); }

template <typename T>
void check_case(const Case& c, std::mt19937& random) {
  using A = Accumulate<T>;
  const std::int64_t channels = c.channels, width = c.width, past = width - 1;
  std::int64_t rows = c.sequences * c.length;
  std::vector<std::int64_t> first;
  if (c.packed) first = draw_offsets(c, random, rows);
  const Offsets offsets(first, rows, random() % 2);
  const std::int64_t planes = c.packed ? 1 : c.sequences, length = c.packed ? rows : c.length;
  const auto array = [&] { return Array<T>(planes, length, channels, c.layout); };
  const auto dense_states = [&] { return Array<A>(c.sequences, past, channels); };
  Array<T> x = array(), dy = array();
  const Layout anyhow[] = {{}, {true, 1, 0, 0}, {false, 2, 1, 3}};
  Array<A> taps(1, width, channels), bias(1, 1, channels), initial(c.sequences, past, channels, anyhow[random() % 3]),
      dfinal(c.sequences, past, channels, anyhow[random() % 3]);
  x.draw(random, 2), dy.draw(random, 1), initial.draw(random, 2), dfinal.draw(random, 1), bias.draw(random, 1);
  taps.draw(random, 2.0 / static_cast<double>(width));

  // The expected values.  Rows that no sequence covers stay zero.
  const auto index = [&](std::int64_t row, std::int64_t k) { return static_cast<std::size_t>(row * channels + k); };
  std::vector<double> y(static_cast<std::size_t>(rows * channels)), dx = y;
  std::vector<double> final(static_cast<std::size_t>(c.sequences * past * channels)), dinitial = final;
  std::vector<double> dtaps(static_cast<std::size_t>(width * channels)), dbias(static_cast<std::size_t>(channels));
  std::vector<double> size(static_cast<std::size_t>(channels));  // the size of the terms of dtaps and dbias
  for (std::int64_t s = 0; s < c.sequences; ++s) {
    const auto at = static_cast<std::size_t>(s);
    const std::int64_t begin = c.packed ? offsets.trusted[at] : s * c.length,
                       end = c.packed ? offsets.trusted[at + 1] : begin + c.length;
    const std::int64_t n = end - begin;
    for (std::int64_t k = 0; k < channels; ++k) {
      const auto read = [&](const Array<T>& from, std::int64_t t) {
        return (c.packed ? exact(from.at(0, begin + t, k)) : exact(from.at(s, t, k))).real();
      };
      // All inputs, beginning with the initial state, and their adjoints.
      std::vector<double> inputs(static_cast<std::size_t>(past + n)), adjoints = inputs;
      for (std::int64_t i = 0; i < past; ++i)
        inputs[static_cast<std::size_t>(i)] = c.initial ? exact(initial.at(s, i, k)).real() : 0;
      for (std::int64_t t = 0; t < n; ++t) inputs[static_cast<std::size_t>(past + t)] = read(x, t);
      for (std::int64_t i = 0; i < past; ++i) {
        final[index(s * past + i, k)] = inputs[static_cast<std::size_t>(n + i)];
        adjoints[static_cast<std::size_t>(n + i)] += c.dfinal ? exact(dfinal.at(s, i, k)).real() : 0;
      }
      for (std::int64_t t = 0; t < n; ++t) {
        double v = c.bias ? exact(bias.at(0, 0, k)).real() : 0;
        for (std::int64_t j = 0; j < width; ++j)
          v += exact(taps.at(0, j, k)).real() * inputs[static_cast<std::size_t>(t + j)];
        y[index(begin + t, k)] = c.silu ? v * sigmoid_of(v) : v;
        const double d = (c.dy ? read(dy, t) : 0) * (c.silu ? sigmoid_of(v) * (1 + v * (1 - sigmoid_of(v))) : 1);
        for (std::int64_t j = 0; j < width; ++j) {
          adjoints[static_cast<std::size_t>(t + j)] += d * exact(taps.at(0, j, k)).real();
          dtaps[index(j, k)] += d * inputs[static_cast<std::size_t>(t + j)];
        }
        dbias[index(0, k)] += d;
        size[index(0, k)] += std::fabs(d);
      }
      for (std::int64_t i = 0; i < past; ++i) dinitial[index(s * past + i, k)] = adjoints[static_cast<std::size_t>(i)];
      for (std::int64_t t = 0; t < n; ++t) dx[index(begin + t, k)] = adjoints[static_cast<std::size_t>(past + t)];
    }
  }
  const auto wanted = [&](const std::vector<double>& v, std::int64_t in_sequence) {
    return [&v, in_sequence, &index](std::int64_t s, std::int64_t t, std::int64_t k) {
      return Exact(v[index(s * in_sequence + t, k)]);
    };
  };

  ConvInputs<T> in{};
  in.extent = extent_of(c.packed, c.sequences, length, channels);
  in.x = x, in.width = width, in.taps = taps.data(), in.bias = c.bias ? bias.data() : nullptr, in.silu = c.silu;
  if (c.initial) in.initial = initial;
  const recblr::cuda::DeviceOffsets device =
      c.packed ? recblr::cuda::DeviceOffsets(offsets) : recblr::cuda::DeviceOffsets{};
  std::vector<Array<T>> results;
  std::vector<std::vector<double>> sums;
  in_orders([&] {
    Array<T> got_y = array(), got_dx = array();
    Array<A> got_final = dense_states(), got_dinitial = dense_states();
    std::vector<double> got(static_cast<std::size_t>((width + 1) * channels), NAN);
    Scratch scratch;
    ConvForward<T> forward{};
    forward.in = in, forward.y = got_y, forward.final = c.states ? got_final.data() : nullptr;
    ConvBackward<T> backward{};
    backward.in = in, backward.dx = got_dx, backward.dinitial = c.states ? got_dinitial.data() : nullptr;
    if (c.dy) backward.dy = dy;
    if (c.dfinal) backward.dfinal = dfinal;
    backward.dtaps = got.data(), backward.dbias = got.data() + width * channels;
    if (c.tile) {
      expect_launched(recblr::cuda::forward(forward, device, scratch.launch(), c.tile));
      expect_launched(recblr::cuda::backward(backward, device, scratch.launch(), c.tile));
    } else {
      expect_launched(recblr::cuda::conv_forward(forward, device, scratch.launch()));
      expect_launched(recblr::cuda::conv_backward(backward, device, scratch.launch()));
    }

    char what[300];
    const auto name = [&](const char* array) {
      std::snprintf(
          what, sizeof what,
          "%s (%lld x %lld x %lld, width %lld, tile %lld, packed %d, silu %d, bias %d, initial %d, dfinal %d, dy %d, "
          "gap %lld, shift %lld, pad %lld, rows %lld, %zu bytes)",
          array, static_cast<long long>(c.sequences), static_cast<long long>(c.length),
          static_cast<long long>(channels), static_cast<long long>(width), static_cast<long long>(c.tile), c.packed,
          c.silu, c.bias, c.initial, c.dfinal, c.dy, static_cast<long long>(c.layout.gap),
          static_cast<long long>(c.layout.shift), static_cast<long long>(c.layout.pad),
          static_cast<long long>(c.layout.rows), sizeof(T));
      return what;
    };
    got_y.expect(wanted(y, length), kTolerance<T>, name("y"));
    got_dx.expect(wanted(dx, length), kTolerance<T>, name("dx"));
    if (c.states) {
      got_final.expect(wanted(final, past), kTolerance<A>, name("final"));
      got_dinitial.expect(wanted(dinitial, past), kTolerance<A>, name("dinitial"));
    }
    for (std::int64_t j = 0; j <= width; ++j)
      for (std::int64_t k = 0; k < channels; ++k) {
        const double sum = got[index(j, k)], want = j < width ? dtaps[index(j, k)] : dbias[index(0, k)];
        if (std::fabs(sum - want) <= kTolerance<A> * (1 + size[index(0, k)])) continue;
        std::printf("%s: of tap %lld, channel %lld it is %.9g, not %.9g\n", name("a sum"), static_cast<long long>(j),
                    static_cast<long long>(k), sum, want);
        ++failures;
        j = width;
        break;
      }
    results.push_back(std::move(got_y)), results.push_back(std::move(got_dx)), sums.push_back(std::move(got));
  });
  bool same = true;
  for (std::size_t i = 2; i < results.size(); ++i) same = same && results[i].same_bits(results[i % 2]);
  for (const auto& s : sums)
    same = same && s.size() == sums[0].size() &&
           (s.empty() || std::memcmp(s.data(), sums[0].data(), s.size() * sizeof(double)) == 0);
  if (!same) std::printf("the order of threads changes the bits\n"), ++failures;
}

// For every shape, tiles must hold every row and every pack once.  There must not be so many tiles that sums over them
// cost much.
void check_tiles() {
  for (std::int64_t rows : {0LL, 1LL, 31LL, 33LL, 102400LL, 524288LL, 1LL << 33})
    for (std::int64_t channels : {1LL, 16LL, 31LL, 33LL, 65LL, 136LL, 384LL, 100000LL})
      for (int widest : {1, 4, 8})
        for (int pack : {1, 4, 8}) {
          if (channels % widest || channels % pack || pack > widest) continue;
          const std::int64_t packs = channels / pack, tile = recblr::cuda::rows_in_tile(rows, channels / widest);
          const recblr::cuda::Tiles t = recblr::cuda::share_out(rows, channels, widest, pack, 128, tile);
          const std::int64_t held = t.row_blocks() * t.tile * t.in_block;
          const bool good = tile >= 32 && tile <= 256 && held >= rows && held - rows < t.tile * t.in_block &&
                            t.groups * t.lanes >= packs && (t.groups - 1) * t.lanes < packs && t.lanes <= 32 &&
                            t.lanes * t.in_block <= 128 && t.lanes * t.in_block > 96 &&
                            t.in_block == recblr::cuda::share_out(rows, channels, widest, widest, 128, tile).in_block;
          if (!good)
            std::printf("%lld rows of %lld packs are divided badly\n", static_cast<long long>(rows),
                        static_cast<long long>(packs)),
                ++failures;
        }
}

// Addresses and strides decide how many channels a thread processes, but they must not change a bit.
template <typename T>
void check_addresses(std::int64_t width, bool packed) {
  using A = Accumulate<T>;
  const std::int64_t sequences = 2, length = 150, channels = 40, past = width - 1, rows = sequences * length;
  const std::int64_t planes = packed ? 1 : sequences, steps = packed ? rows : length;
  const Offsets offsets({0, 101, rows}, rows, true);
  recblr::cuda::DeviceOffsets device;
  if (packed) device = offsets;
  const auto run = [&](const std::vector<Layout>& layouts) {
    const auto array = [&](std::size_t n) { return Array<T>(planes, steps, channels, layouts[n]); };
    const auto state = [&](std::size_t n) { return Array<A>(sequences, past, channels, layouts[n]); };
    const auto dense = [&](auto element, std::size_t n, std::int64_t count) {
      return Array<decltype(element)>(1, count, channels, {false, 1, layouts[n].shift, 0});
    };
    Array<T> x = array(0), dy = array(1), y = array(2), dx = array(3);
    Array<A> initial = state(4), dfinal = state(5), taps = dense(A(), 6, width), bias = dense(A(), 7, 1);
    Array<A> final = dense(A(), 8, sequences * past), dinitial = dense(A(), 9, sequences * past);
    Array<double> dtaps = dense(double(), 10, width), dbias = dense(double(), 11, 1);
    std::mt19937 random(7);
    for (Array<T>* a : {&x, &dy}) a->draw(random, 2);
    for (Array<A>* a : {&initial, &dfinal, &taps, &bias}) a->draw(random, 1);
    ConvInputs<T> in{};
    in.extent = extent_of(packed, sequences, steps, channels);
    in.x = x, in.width = width, in.taps = taps.data(), in.bias = bias.data(), in.initial = initial, in.silu = true;
    Scratch scratch;
    expect_launched(recblr::cuda::conv_forward(ConvForward<T>{in, y, final.data()}, device, scratch.launch()));
    const ConvBackward<T> backward{in, dy, dfinal, dx, dinitial.data(), dtaps.data(), dbias.data()};
    expect_launched(recblr::cuda::conv_backward(backward, device, scratch.launch()));
    std::vector<Exact> all;
    for (const Array<T>* a : {&y, &dx}) a->append_to(all);
    for (const Array<A>* a : {&final, &dinitial}) a->append_to(all);
    for (const Array<double>* a : {&dtaps, &dbias}) a->append_to(all);
    return all;
  };
  char what[100];
  std::snprintf(what, sizeof what, "width %d, packed %d, %zu bytes", static_cast<int>(width), packed, sizeof(T));
  expect_same_bits_everywhere(12, run, what);
}

// Memory of which only the touched pages exist.
class Sparse {
 public:
  explicit Sparse(std::size_t bytes)
      : bytes_(bytes),
        at_(mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)) {
    if (at_ == MAP_FAILED) std::printf("no address space\n"), std::exit(1);
  }
  Sparse(const Sparse&) = delete;
  Sparse& operator=(const Sparse&) = delete;
  ~Sparse() { munmap(at_, bytes_); }
  float* data() const { return static_cast<float*>(at_); }

 private:
  std::size_t bytes_;
  void* at_;
};

// Rows may lie further apart in memory than a 32-bit number can count.
void check_far_apart(bool packed, std::int64_t width, std::mt19937& random) {
  const std::int64_t sequences = 2, length = 70, channels = 4, apart = (std::int64_t{1} << 32) + 4;
  const std::int64_t rows = sequences * length;
  const auto bytes = static_cast<std::size_t>((rows - 1) * apart + channels) * sizeof(float);
  const Sparse far_x(bytes), far_dy(bytes), far_y(bytes), far_dx(bytes);
  Array<float> x(sequences, length, channels), dy(sequences, length, channels), y(sequences, length, channels),
      dx(sequences, length, channels), taps(1, width, channels);
  for (auto* a : {&x, &dy, &taps}) a->draw(random, 1);
  for (std::int64_t row = 0; row < rows; ++row) {
    std::copy_n(x.data() + row * channels, channels, far_x.data() + row * apart);
    std::copy_n(dy.data() + row * channels, channels, far_dy.data() + row * apart);
  }
  const Offsets ends({0, length, rows}, rows, true);
  const recblr::cuda::DeviceOffsets device = packed ? recblr::cuda::DeviceOffsets(ends) : recblr::cuda::DeviceOffsets{};
  const auto run = [&](float* x, float* dy, float* y, float* dx, std::int64_t time) {
    std::vector<double> sums(static_cast<std::size_t>((width + 1) * channels));
    ConvInputs<float> in{};
    in.extent = extent_of(packed, sequences, packed ? rows : length, channels);
    in.x = {x, length * time, time, 1}, in.width = width, in.taps = taps.data();
    const View<float> to_y{y, length * time, time, 1}, to_dx{dx, length * time, time, 1};
    Scratch scratch;
    expect_launched(recblr::cuda::conv_forward(ConvForward<float>{in, to_y, nullptr}, device, scratch.launch()));
    expect_launched(recblr::cuda::conv_backward(
        ConvBackward<float>{
            in, {dy, length * time, time, 1}, {}, to_dx, nullptr, sums.data(), sums.data() + width * channels},
        device, scratch.launch()));
    return sums;
  };
  bool same = run(x.data(), dy.data(), y.data(), dx.data(), channels) ==
              run(far_x.data(), far_dy.data(), far_y.data(), far_dx.data(), apart);
  for (std::int64_t row = 0; row < rows; ++row)
    same = same && std::equal(y.data() + row * channels, y.data() + (row + 1) * channels, far_y.data() + row * apart) &&
           std::equal(dx.data() + row * channels, dx.data() + (row + 1) * channels, far_dx.data() + row * apart);
  if (!same) std::printf("rows that lie far apart in memory are confused with others\n"), ++failures;
}

}  // namespace

int main(int argc, char** argv) {
  std::mt19937 random(argc > 1 ? static_cast<unsigned>(std::atoi(argv[1])) : 1);
  const Layout layouts[] = {
      {}, {false, 1, 1, 0}, {false, 1, 0, 8}, {false, 1, 0, 0, 3}, {false, 1, 4, 4}, {false, 1, 0, 3, 1}};
  check_tiles();
  for (bool packed : {false, true})
    for (std::int64_t width : {4, 3}) {
#define RECBLR_CHECK_ADDRESSES(T) check_addresses<T>(width, packed);
      RECBLR_REAL_TYPES(RECBLR_CHECK_ADDRESSES)
      check_far_apart(packed, width, random);
    }
  int cases = 0;
  const auto check_types = [&](Case c) {
    const unsigned bits = static_cast<unsigned>(random());
    c.silu = bits & 1, c.bias = bits & 2, c.initial = bits & 4, c.dfinal = bits & 8, c.dy = bits & 0x30,
    c.states = bits & 0xc0;
    c.layout = layouts[random() % 6];
#define RECBLR_CHECK(T) check_case<T>(c, random), ++cases;
    RECBLR_REAL_TYPES(RECBLR_CHECK)
  };
#if defined(RECBLR_REDUCED)
  const std::int64_t widths[] = {4, 3}, counts[] = {0, 5}, lengths[] = {0, 2, 41}, channel_counts[] = {1, 20};
#else
  const std::int64_t widths[] = {4, 4, 1, 2, 3, 7, 64}, counts[] = {0, 1, 5}, lengths[] = {0, 1, 2, 5, 41},
                     channel_counts[] = {1, 8, 20, 136};
#endif
  for (std::int64_t width : widths)
    for (bool packed : {false, true})
      for (std::int64_t sequences : counts)
        for (std::int64_t length : lengths)
          for (std::int64_t channels : channel_counts) {
            const std::int64_t tiles[] = {0, 1, 3, 16};
            if (width == 64 && channels > 20) continue;
            check_types({sequences, length, channels, width, tiles[random() % 4], packed});
#if defined(RECBLR_REDUCED)
            if (failures) return 1;
#endif
          }
  check_types({140, 4, 136, 4, 1, true});  // sums of many blocks
  check_types({2, 700, 8, 4, 0, false});
  check_types({5, 300, 40, 4, 0, true});
  check_types({700, 3, 8, 4, 0, true});
  check_types({70000, 1, 1, 4, 0, false});  // more sequences than the y and z axes of a grid hold
  std::printf("causal convolution on the host: %d cases, %lld launches, %d failures\n", cases,
              static_cast<long long>(cuda_on_host::machine.launches), failures);
  return failures ? 1 : 0;
}
