// What the tests of kernels on the host share: numbers of every type, arrays laid out in every way, and comparison with
// results in double precision.
#pragma once
#include <cmath>
#include <complex>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <type_traits>
#include <vector>

#include "core/scan.h"
#include "launch.h"
#include "numbers.h"
#include "shim.h"

// Instrumented code takes long to compile, and the size of a type decides whether a load is in bounds.  So these are
// the smallest, the largest and the most used one.  `make sanitize` has all types.
#if defined(RECBLR_FEWER_TYPES)
#undef RECBLR_ELEMENT_TYPES
#undef RECBLR_REAL_TYPES
#define RECBLR_REAL_TYPES(macro) macro(::recblr::Bfloat16) macro(float)
#define RECBLR_ELEMENT_TYPES(macro) RECBLR_REAL_TYPES(macro) macro(::recblr::Complex<double>)
#endif

namespace check {

using recblr::Accumulate;
using recblr::View;

inline int failures = 0;

using recblr_test::exact;
using recblr_test::Exact;
using recblr_test::Near;
using recblr_test::thorough;

// Where sequences begin and end; now and then offsets that must be repaired.  rows: of the array.
inline std::vector<std::int64_t> draw_offsets(std::int64_t sequences, std::int64_t average, std::mt19937& random,
                                              std::int64_t& rows) {
  std::uniform_int_distribution<std::int64_t> length(0, 2 * average), coin(0, 3);
  std::vector<std::int64_t> offsets{0};
  for (std::int64_t s = 0; s < sequences; ++s) offsets.push_back(offsets.back() + (coin(random) ? length(random) : 0));
  rows = offsets.back();
  if (coin(random) || sequences == 0) return offsets;
  rows += coin(random);  // behind the last sequence
  offsets[0] = coin(random) - 1;
  std::uniform_int_distribution<std::size_t> one(0, offsets.size() - 1);
  offsets[one(random)] = std::uniform_int_distribution<std::int64_t>(-rows - 9, 2 * rows + 9)(random);
  return offsets;
}

template <typename T>
constexpr double kTolerance = sizeof(T) == 2                                                            ? 1e-2
                              : std::is_same_v<T, double> || std::is_same_v<T, recblr::Complex<double>> ? 1e-11
                                                                                                        : 3e-5;

// How a (sequence, time, channel) array lies in memory, in elements.  `gap` lies between neighbours, `shift` before the
// first element, which is otherwise aligned to 16 bytes.
struct Layout {
  bool channel_first = false;
  std::int64_t gap = 1, shift = 0;
  std::int64_t pad = 0;   // elements more than a row needs
  std::int64_t rows = 0;  // between one sequence and the next
};

// Such an array on the heap, exactly as large as it must be, full of NaN until it is filled.
template <typename T>
class Array {
 public:
  Array(std::int64_t sequences, std::int64_t length, std::int64_t channels, Layout l = {})
      : sequences_(sequences), length_(length), channels_(channels) {
    const std::int64_t lines = sequences && length ? sequences * (length + l.rows) - l.rows : 0;
    const std::int64_t inner = l.channel_first ? lines : channels, outer = l.channel_first ? channels : lines;
    const std::int64_t row = l.gap * inner + l.pad;
    time_ = l.channel_first ? l.gap : row, channel_ = l.channel_first ? row : l.gap;
    plane_ = (length + l.rows) * time_;
    const std::int64_t size = outer && inner ? l.shift + (outer - 1) * row + (inner - 1) * l.gap + 1 : l.shift;
    bytes_ = static_cast<std::size_t>(size) * sizeof(T);
    memory_.reset(std::malloc(bytes_));
    std::memset(memory_.get(), 0xff, bytes_);
    data_ = static_cast<T*>(memory_.get()) + l.shift;
  }
  T& at(std::int64_t s, std::int64_t t, std::int64_t c) const { return data_[s * plane_ + t * time_ + c * channel_]; }
  T* data() const { return data_; }
  operator View<T>() const { return {data_, plane_, time_, channel_}; }
  operator View<const T>() const { return {data_, plane_, time_, channel_}; }

  template <typename F>  // f(s, t, c), a number
  void fill(const F& f) {
    for (std::int64_t s = 0; s < sequences_; ++s)
      for (std::int64_t t = 0; t < length_; ++t)
        for (std::int64_t c = 0; c < channels_; ++c) at(s, t, c) = Near<T>::to(f(s, t, c));
  }
  void draw(std::mt19937& random, double most) {
    std::uniform_real_distribution<double> value(-most, most);
    fill([&](auto, auto, auto) { return Exact{value(random), value(random)}; });
  }
  void append_to(std::vector<Exact>& all) const {
    for (std::int64_t s = 0; s < sequences_; ++s)
      for (std::int64_t t = 0; t < length_; ++t)
        for (std::int64_t c = 0; c < channels_; ++c) all.push_back(exact(at(s, t, c)));
  }
  bool same_bits(const Array& other) const {
    return bytes_ == other.bytes_ && std::memcmp(memory_.get(), other.memory_.get(), bytes_) == 0;
  }

  // want(s, t, c) is compared with every element; `what` names the array and the case.
  template <typename F>
  void expect(const F& want, double tolerance, const char* what) const {
    for (std::int64_t s = 0; s < sequences_; ++s)
      for (std::int64_t t = 0; t < length_; ++t)
        for (std::int64_t c = 0; c < channels_; ++c) {
          const Exact got = exact(at(s, t, c)), wanted = want(s, t, c);
          if (std::abs(got - wanted) <= tolerance * (1 + std::abs(wanted))) continue;
          std::printf("%s: at sequence %lld, time %lld, channel %lld it is %.9g, not %.9g\n", what,
                      static_cast<long long>(s), static_cast<long long>(t), static_cast<long long>(c), got.real(),
                      wanted.real());
          ++failures;
          return;
        }
  }

 private:
  struct Free {
    void operator()(void* p) const { std::free(p); }
  };
  std::int64_t sequences_, length_, channels_, plane_, time_, channel_;
  std::size_t bytes_;
  std::unique_ptr<void, Free> memory_;
  T* data_;
};

// Scratch memory for launchers, exactly as large as they ask for, full of NaN; freed with this.  Null for 0 bytes, as
// torch has it: launchers must not take that for a lack of memory.
class Scratch {
 public:
  Scratch() = default;
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() {
    for (void* p : all_) std::free(p);
  }
  recblr::cuda::Launch launch(int regime = 0) {
    recblr::cuda::Launch to;
    to.regime = regime, to.context = this;
    to.allocate = [](void* self, std::size_t bytes) {
      if (bytes == 0) return static_cast<void*>(nullptr);
      void* memory = std::malloc(bytes);
      std::memset(memory, 0xff, bytes);
      static_cast<Scratch*>(self)->all_.push_back(memory);
      return memory;
    };
    return to;
  }

 private:
  std::vector<void*> all_;
};

// Offsets as a kernel sees them, of either width, and what they must be taken for: in bounds, in order.
struct Offsets {
  std::vector<std::int64_t> wide, trusted;
  std::vector<std::int32_t> narrow;
  bool use_wide;

  Offsets(const std::vector<std::int64_t>& values, std::int64_t rows, bool use_wide) : use_wide(use_wide) {
    std::int64_t largest = 0;
    for (std::int64_t v : values) {
      wide.push_back(v), wide.push_back(-7);  // every other one, to be skipped
      narrow.push_back(static_cast<std::int32_t>(v)), narrow.push_back(-7);
      largest = std::max(largest, std::min(v, rows));
      trusted.push_back(largest);
    }
  }
  operator recblr::cuda::DeviceOffsets() const {
    return {use_wide ? static_cast<const void*>(wide.data()) : narrow.data(), use_wide, 2};
  }
};

// An extent as a launcher gets it: where packed, `steps` is the number of all rows.
inline recblr::Extent extent_of(bool packed, std::int64_t sequences, std::int64_t steps, std::int64_t channels) {
  return packed ? recblr::Extent::packed(sequences, steps, channels)
                : recblr::Extent::padded(sequences, steps, channels);
}

inline void expect_launched(const char* error) {
  if (error) std::printf("not launched: %s\n", error), ++failures;
}

// Calls run() in each of the orders in which threads and blocks may run.
template <typename F>
void in_every_order(const F& run) {
  using cuda_on_host::Order;
  for (Order order : {Order::forward, Order::reverse, Order::shuffled}) {
    cuda_on_host::machine.order = order;
    run();
  }
}
// The same for what a kernel computes.  Under AddressSanitizer one order is enough: an address does not depend on it,
// and the build without sanitizers compares the values.
template <typename F>
void in_orders(const F& run) {
#if defined(__SANITIZE_ADDRESS__)
  cuda_on_host::machine.order = cuda_on_host::Order::shuffled;
  run();
#else
  in_every_order(run);
#endif
}

// Wherever in memory so many arrays lie, run(layouts), all its results, must be the same bits: with every array aligned
// to 16 bytes; with each an element behind that, and with all 1, 2 or 4, so that packs of each size are met; with rows
// that are an element longer.
template <typename F>
void expect_same_bits_everywhere(std::size_t arrays, const F& run, const char* what) {
  const std::vector<Exact> aligned = run(std::vector<Layout>(arrays));
  const auto expect = [&](const std::vector<Layout>& layouts, const char* which, std::size_t number) {
    const std::vector<Exact> got = run(layouts);
    if (std::memcmp(got.data(), aligned.data(), got.size() * sizeof(Exact)) == 0) return;
    std::printf("%s: other bits where %s %zu is not aligned\n", what, which, number), ++failures;
  };
  for (std::size_t n = 0; n < arrays; ++n) {
    std::vector<Layout> one(arrays);
    one[n].shift = 1;
    expect(one, "array", n);
  }
  for (std::int64_t shift : {1, 2, 4})
    expect(std::vector<Layout>(arrays, Layout{false, 1, shift, 0}), "none of", arrays);
  expect(std::vector<Layout>(arrays, Layout{false, 1, 0, 1}), "no row of", arrays);
}

}  // namespace check
