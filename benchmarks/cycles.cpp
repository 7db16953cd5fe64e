// Claim: a step of the fused unit takes at most 4.5 cycles per element on AVX-512 and at most 8 on AVX2. The data is in
// cache, and one core works.
//
// Prints one JSON object per line: the cycles per element that one core takes with the instruction set that RECBLR_ISA
// names. The time-stamp counter measures time. A chain of additions that take one cycle each gives the length of a
// cycle. Run: make bench-cycles
#include <x86intrin.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <random>
#include <vector>

#include "core/bdlru.h"
#include "core/causal_conv1d.h"

namespace {

using namespace recblr;

constexpr std::int64_t kSequences = 2, kLength = 64, kChannels = 128, kRows = kSequences * kLength, kWidth = 4;
constexpr int kRounds = 2000;

// The lower quartile of the ticks of a call: its duration without interruptions.
template <typename F>
double ticks(const F& f) {
  std::vector<double> taken;
  unsigned core;
  for (int i = 0; i < kRounds; ++i) {
    const auto start = __rdtscp(&core);
    f();
    taken.push_back(static_cast<double>(__rdtscp(&core) - start));
  }
  std::sort(taken.begin(), taken.end());
  return taken[kRounds / 4];
}

double ticks_a_cycle() {
  constexpr std::uint64_t kAdditions = 100000;
  return ticks([] {
           for (std::uint64_t i = 0, x = 1; i < kAdditions / 10; ++i)
             asm volatile(
                 "add %1, %0\nadd %1, %0\nadd %1, %0\nadd %1, %0\nadd %1, %0\n"
                 "add %1, %0\nadd %1, %0\nadd %1, %0\nadd %1, %0\nadd %1, %0\n"
                 : "+r"(x)
                 : "r"(i));
         }) /
         kAdditions;
}

struct Numbers {
  std::mt19937 random{0};
  std::normal_distribution<float> normal;
  std::vector<float> operator()(std::int64_t n) {
    std::vector<float> v(static_cast<std::size_t>(n));
    for (float& x : v) x = normal(random);
    return v;
  }
};

template <typename T>
View<T> view(T* data, std::int64_t row) {
  return {data, kLength * row, row, 1};
}

}  // namespace

int main() {
  if (isa_error()) {
    std::fprintf(stderr, "%s\n", isa_error());
    return 1;
  }
  Numbers numbers;
  const std::int64_t n = kRows * kChannels;
  const auto x = numbers(n), gates = numbers(2 * n), z = numbers(n), dy = numbers(n),
             taps = numbers(kWidth * kChannels);
  auto decay = numbers(kChannels), y = numbers(n), final = numbers(kSequences * kChannels), dinitial = final;
  auto states = numbers((kRows / kStateRows + 1) * kChannels), dx = numbers(n), dgates = numbers(2 * n),
       dz = numbers(n);
  auto past = numbers(kSequences * (kWidth - 1) * kChannels), dpast = past;
  std::vector<double> sums(static_cast<std::size_t>(kWidth * kChannels)), bias_sums(kChannels);
  for (float& d : decay) d = std::fabs(d) / 20;
  const Extent e = Extent::padded(kSequences, kLength, kChannels);
  const Task task{0, 0, kSequences, 0, kChannels};

  for (const bool gated : {false, true}) {
    BdlruForward<float> forward{};
    forward.in.extent = e, forward.in.x = view(x.data(), kChannels),
    forward.in.gates = view(gates.data(), 2 * kChannels);
    if (gated) forward.in.z = view(z.data(), kChannels);
    forward.in.decay = decay.data(), forward.y = view(y.data(), kChannels), forward.final = final.data(),
    forward.states = states.data();
    BdlruBackward<float> backward{};
    backward.in = forward.in, backward.dy = view(dy.data(), kChannels), backward.states = states.data();
    backward.dx = view(dx.data(), kChannels), backward.dgates = view(dgates.data(), 2 * kChannels);
    if (gated) backward.dz = view(dz.data(), kChannels);
    backward.dinitial = dinitial.data(), backward.ddecay = sums.data();
    const double cycle = ticks_a_cycle(), elements = static_cast<double>(n);
    std::printf(
        "{\"isa\": \"%s\", \"kernel\": \"bdlru%s\", \"forward\": %.2f, \"backward\": %.2f, \"ticks_a_cycle\": %.3f}\n",
        isa_name(isa()), gated ? " with z" : "", ticks([&] { compute(forward, task); }) / cycle / elements,
        ticks([&] { compute(backward, task); }) / cycle / elements, cycle);
  }
  ConvForward<float> forward{};
  forward.in.extent = e, forward.in.x = view(x.data(), kChannels), forward.in.width = kWidth,
  forward.in.taps = taps.data();
  forward.in.bias = decay.data(), forward.in.silu = true, forward.y = view(y.data(), kChannels),
  forward.final = past.data();
  ConvBackward<float> backward{};
  backward.in = forward.in, backward.dy = view(dy.data(), kChannels), backward.dx = view(dx.data(), kChannels);
  backward.dinitial = dpast.data(), backward.dtaps = sums.data(), backward.dbias = bias_sums.data();
  const double cycle = ticks_a_cycle(), elements = static_cast<double>(n);
  std::printf(
      "{\"isa\": \"%s\", \"kernel\": \"causal_conv1d\", \"forward\": %.2f, \"backward\": %.2f, \"ticks_a_cycle\": "
      "%.3f}\n",
      isa_name(isa()), ticks([&] { compute(forward, task); }) / cycle / elements,
      ticks([&] { compute(backward, task); }) / cycle / elements, cycle);
}
