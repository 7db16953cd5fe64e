// The scan for shapes with too few sequences and channels to occupy a GPU.  So blocks share time.
//
// There are three launches.  First, every segment is summarised.  Second, states are carried over the summaries.
// Third, every segment is scanned from its state as if it were a sequence (scan_rows.cuh).  Inputs are read twice,
// except those of the last segment of a sequence.
#pragma once
#include "scan_rows.cuh"
#include "segments.cuh"

namespace recblr::cuda {

template <typename Cell>
using SummaryRing = Ring<typename Cell::Element, Cell::kChannels, 2, kRowStages, kRowThreads>;

// product and from_zero are (segment, channel).
template <typename Cell>
__global__ void __launch_bounds__(kRowThreads)
    scan_summaries(const __grid_constant__ typename Cell::Work w, typename Cell::State* product_to,
                   typename Cell::State* from_zero_to) {
  using A = typename Cell::State;
  constexpr int N = Cell::kChannels;
  RECBLR_SHARED_BYTES(shared);
  const Extent& e = w.extent;
  const std::int64_t packs = e.channels / N;
  if (thread_index() >= e.segment_count * packs) return;
  const std::int64_t index = thread_index() / packs, c = thread_index() % packs * N;
  const Walk walk(e, index);
  if (walk.length == 0 || Cell::ends(walk)) return;  // its summary is not used
  const Cell cell(w, walk, c);
  const auto fetch = [&](std::int64_t t, int array) { return cell.fetch(t, array); };
  A product[N], from_zero[N];
#pragma unroll
  for (int k = 0; k < N; ++k) product[k] = Constant<A>::one(), from_zero[k] = Constant<A>::zero();
  SummaryRing<Cell> ring(shared);
  ring.begin(walk.length, fetch);
  for (std::int64_t t = 0; t < walk.length; ++t) {
    Pack<typename Cell::Element, N> in[2];
    ring.next(fetch);
    ring.get(in);
    Cell::summarise(in, product, from_zero);
  }
  store_state(View<A>{product_to, e.channels, 0, 1}, index, c, N, product);
  store_state(View<A>{from_zero_to, e.channels, 0, 1}, index, c, N, from_zero);
}

constexpr int kCarryThreads = 32, kCarryStages = 24;

template <typename A, int N>
using CarryRing = Ring<A, N, 2, kCarryStages, kCarryThreads>;

// Turns the incoming states of sequences, (sequence, channel), or none, into the incoming states of segments.
template <typename A>
struct Carry {
  Cut cut;
  std::int64_t channels;
  bool against;
  View<const A> start;
  const A *product, *from_zero;  // (segment, channel), like incoming
  A* incoming;
};

template <typename A, int N>
__global__ void __launch_bounds__(kCarryThreads) carry_states(const __grid_constant__ Carry<A> w) {
  RECBLR_SHARED_BYTES(shared);
  const std::int64_t packs = w.channels / N;
  if (thread_index() >= w.cut.sequences * packs) return;
  const std::int64_t s = thread_index() / packs, c = thread_index() % packs * N;
  const std::int64_t count = w.cut.segments(w.cut.length_of(s)), first = w.cut.first_place(s);
  const auto place = [&](std::int64_t n) { return w.against ? first + count - 1 - n : first + n; };
  const auto fetch = [&](std::int64_t n, int array) {
    return (array == 0 ? w.product : w.from_zero) + place(n) * w.channels + c;
  };
  A state[N];
  load_state(w.start, s, c, N, state);
  CarryRing<A, N> ring(shared);
  ring.begin(count - 1, fetch);
  for (std::int64_t n = 0;; ++n) {
    store_narrow<N>(w.incoming + place(n) * w.channels + c, state);
    if (n == count - 1) return;
    Pack<A, N> in[2];
    ring.next(fetch);
    ring.get(in);
#pragma unroll
    for (int k = 0; k < N; ++k) state[k] = step_over(in[0].at[k], state[k], in[1].at[k]);
  }
}

template <typename A>
const char* launch_carry(const Carry<A>& w, const Launch& to) {
  constexpr int kPack = static_cast<int>(16 / sizeof(A));
  const auto blocks = [&](std::int64_t n) {
    return (w.cut.sequences * (w.channels / n) + kCarryThreads - 1) / kCarryThreads;
  };
  if (w.channels % kPack == 0)
    return launch<carry_states<A, kPack>>(blocks(kPack), kCarryThreads, CarryRing<A, kPack>::kBytes, to, w);
  return launch<carry_states<A, 1>>(blocks(1), kCarryThreads, CarryRing<A, 1>::kBytes, to, w);
}

// `steps` is the length of a segment.  There must be at least one sequence.
template <typename Cell>
const char* scan_split(typename Cell::Work w, std::int64_t steps, const Launch& to) {
  using A = typename Cell::State;
  Extent& e = w.extent;
  const Cut cut{e.offsets, e.sequences, e.length, e.rows, steps, e.reverse};
  const std::int64_t places = cut.places();
  // Sizes are rounded up to 256 bytes, so that every array begins at an address that fits packs.
  const auto whole = [](std::int64_t bytes) { return (bytes + 255) / 256 * 256; };
  const std::int64_t segments = whole(places * static_cast<std::int64_t>(sizeof(Segment)));
  const std::int64_t states = whole(places * e.channels * static_cast<std::int64_t>(sizeof(A)));
  auto* all = scratch<unsigned char>(to, segments + 3 * states);
  if (!all) return kNoMemory;
  const auto array = [&](std::int64_t n) { return reinterpret_cast<A*>(all + segments + n * states); };
  auto* parts = reinterpret_cast<Segment*>(all);
  A *product = array(0), *from_zero = array(1), *incoming = array(2);

  const std::int64_t cutters = (places + kCutThreads - 1) / kCutThreads;
  if (const char* error = launch<cut_sequences<kCutThreads>>(cutters, kCutThreads, 0, to, cut, parts)) return error;
  e.segments = parts, e.segment_count = places;
  const std::int64_t blocks = (places * (e.channels / Cell::kChannels) + kRowThreads - 1) / kRowThreads;
  if (const char* error =
          launch<scan_summaries<Cell>>(blocks, kRowThreads, SummaryRing<Cell>::kBytes, to, w, product, from_zero))
    return error;
  const Carry<A> carry{cut, e.channels, Cell::kAgainst, Cell::starts(w), product, from_zero, incoming};
  if (const char* error = launch_carry(carry, to)) return error;
  Cell::starts(w) = View<const A>{incoming, e.channels, 0, 1};
  return launch<scan_rows<Cell>>(blocks, kRowThreads, RowRing<Cell>::kBytes, to, w);
}

}  // namespace recblr::cuda
