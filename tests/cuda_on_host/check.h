// Shared by the tests of kernels on the host: numbers of every type, arrays in every layout, and comparison with
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

namespace check {

using recblr::Accumulate;
using recblr::View;

inline int failures = 0;

using recblr_test::exact;
using recblr_test::Exact;
using recblr_test::Near;
using recblr_test::thorough;

// Draws the offsets of sequences.  Now and then an offset must be repaired. `rows` is the number of rows of the array.
inline std::vector<std::int64_t> draw_offsets(std::int64_t sequences, std::int64_t average, std::mt19937& random,
                                              std::int64_t& rows) {
  std::uniform_int_distribution<std::int64_t> length(0, 2 * average), coin(0, 3);
  std::vector<std::int64_t> offsets{0};
  for (std::int64_t s = 0; s < sequences; ++s) offsets.push_back(offsets.back() + (coin(random) ? length(random) : 0));
  rows = offsets.back();
  if (coin(random) || sequences == 0) return offsets;
  rows += coin(random);  // rows after the last sequence
  offsets[0] = coin(random) - 1;
  std::uniform_int_distribution<std::size_t> one(0, offsets.size() - 1);
  offsets[one(random)] = std::uniform_int_distribution<std::int64_t>(-rows - 9, 2 * rows + 9)(random);
  return offsets;
}

template <typename T>
constexpr double kTolerance = sizeof(T) == 2                                                            ? 1e-2
                              : std::is_same_v<T, double> || std::is_same_v<T, recblr::Complex<double>> ? 1e-11
                                                                                                        : 3e-5;

// How a (sequence, time, channel) array lies in memory, in elements. `gap` is the distance between neighbours. `shift`
// elements come before the first element; without them it is aligned to 16 bytes.
struct Layout {
  bool channel_first = false;
  std::int64_t gap = 1, shift = 0;
  std::int64_t pad = 0;   // extra elements per row
  std::int64_t rows = 0;  // extra rows between two sequences
};

// An array on the heap with such a layout.  It is exactly as large as needed, and full of NaN until it is filled.
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

  template <typename F>  // f(s, t, c) returns a number
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

  // Compares every element with want(s, t, c). `what` names the array and the case.
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

// Scratch memory for launchers, exactly as large as they ask for and full of NaN.  The destructor frees it.  For 0
// bytes it returns null, as torch does.  Launchers must not treat that as a lack of memory.
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

// Offsets as a kernel gets them, in either integer type, and the clamped and ordered values that the kernel must use.
struct Offsets {
  std::vector<std::int64_t> wide, trusted;
  std::vector<std::int32_t> narrow;
  bool use_wide;

  Offsets(const std::vector<std::int64_t>& values, std::int64_t rows, bool use_wide) : use_wide(use_wide) {
    std::int64_t largest = 0;
    for (std::int64_t v : values) {
      wide.push_back(v), wide.push_back(-7);  // every second value must be skipped
      narrow.push_back(static_cast<std::int32_t>(v)), narrow.push_back(-7);
      largest = std::max(largest, std::min(v, rows));
      trusted.push_back(largest);
    }
  }
  operator recblr::cuda::DeviceOffsets() const {
    return {use_wide ? static_cast<const void*>(wide.data()) : narrow.data(), use_wide, 2};
  }
};

// An extent as a launcher gets it.  If packed, `steps` is the number of all rows.
inline recblr::Extent extent_of(bool packed, std::int64_t sequences, std::int64_t steps, std::int64_t channels) {
  return packed ? recblr::Extent::packed(sequences, steps, channels)
                : recblr::Extent::padded(sequences, steps, channels);
}

inline void expect_launched(const char* error) {
  if (error) std::printf("the launch failed: %s\n", error), ++failures;
}

// Calls run() once for each order of threads and blocks.
template <typename F>
void in_every_order(const F& run) {
  using cuda_on_host::Order;
  for (Order order : {Order::forward, Order::reverse, Order::shuffled}) {
    cuda_on_host::machine.order = order;
    run();
  }
}
// The same for the results of a kernel.  Under AddressSanitizer one order is enough: addresses do not depend on the
// order, and the build without sanitizers compares the values.
template <typename F>
void in_orders(const F& run) {
#if defined(__SANITIZE_ADDRESS__)
  cuda_on_host::machine.order = cuda_on_host::Order::shuffled;
  run();
#else
  in_every_order(run);
#endif
}

// Checks that the results of run(layouts) have the same bits for every placement of `arrays` arrays in memory.  First
// all arrays are aligned to 16 bytes.  Then each array alone is shifted by one element.  Then all are shifted by 1, 2
// or 4 elements, so that packs of each size occur.  Then rows are one element longer.
template <typename F>
void expect_same_bits_everywhere(std::size_t arrays, const F& run, const char* what) {
  const std::vector<Exact> aligned = run(std::vector<Layout>(arrays));
  const auto expect = [&](const std::vector<Layout>& layouts, const char* which, std::size_t number) {
    const std::vector<Exact> got = run(layouts);
    if (std::memcmp(got.data(), aligned.data(), got.size() * sizeof(Exact)) == 0) return;
    std::printf("%s: the bits differ with %s %zu\n", what, which, number), ++failures;
  };
  for (std::size_t n = 0; n < arrays; ++n) {
    std::vector<Layout> one(arrays);
    one[n].shift = 1;
    expect(one, "misaligned array number", n);
  }
  for (std::int64_t shift : {1, 2, 4})
    expect(std::vector<Layout>(arrays, Layout{false, 1, shift, 0}), "all arrays misaligned, number of arrays:", arrays);
  expect(std::vector<Layout>(arrays, Layout{false, 1, 0, 1}), "all rows misaligned, number of arrays:", arrays);
}

}  // namespace check
