// Memory in packs: neighbouring elements of a thread, read and written at once.  Also a ring of packs in flight from
// memory, several time steps ahead of their use.
#pragma once
#include "formulas.cuh"

namespace recblr::cuda {

// N elements as they are stored, aligned to their total size.
template <typename T, int N>
struct alignas(sizeof(T) * N) Pack {
  T at[N];
};

// A type for B bytes in machine words.
template <int B>
struct Word;
#if defined(__CUDACC__)
template <>
struct Word<16> {
  using type = uint4;
};
template <>
struct Word<8> {
  using type = uint2;
};
template <>
struct Word<4> {
  using type = unsigned;
};
template <>
struct Word<2> {
  using type = unsigned short;
};
#endif

// Loads a pack. `at` is aligned to the pack.  Nothing may write this memory while the kernel runs.
template <typename T, int N>
RECBLR_HD Pack<T, N> load_pack(const T* at) {
  Pack<T, N> pack;
#if defined(__CUDACC__)
  using W = typename Word<static_cast<int>(sizeof pack)>::type;
  const W word = __ldg(reinterpret_cast<const W*>(at));
  memcpy(&pack, &word, sizeof pack);
#else
  ::cuda_on_host::expect_aligned(at, sizeof pack);
  std::memcpy(&pack, at, sizeof pack);
#endif
  return pack;
}
template <typename T, int N>
RECBLR_HD void store_pack(T* at, const Pack<T, N>& pack) {
#if defined(__CUDACC__)
  using W = typename Word<static_cast<int>(sizeof pack)>::type;
  W word;
  memcpy(&word, &pack, sizeof pack);
  __stwb(reinterpret_cast<W*>(at), word);  // tells the compiler that the memory is global
#else
  ::cuda_on_host::expect_aligned(at, sizeof pack);
  std::memcpy(at, &pack, sizeof pack);
#endif
}

// Reads a pack in shared memory at once.
template <typename T, int N>
RECBLR_HD Pack<T, N> copy_of(const Pack<T, N>* at) {
  Pack<T, N> pack;
#if defined(__CUDACC__)
  using W = typename Word<static_cast<int>(sizeof pack)>::type;
  const W word = *reinterpret_cast<const W*>(at);
  memcpy(&pack, &word, sizeof pack);
#else
  std::memcpy(&pack, at, sizeof pack);
#endif
  return pack;
}

// Copies N states from registers to shared memory, or back, in words of up to 16 bytes.  The shared memory is aligned
// to these words.
template <int N, typename A>
RECBLR_HD void copy_states(const A* from, A* to) {
  constexpr int kWord = N * sizeof(A) % 16 == 0  ? 16
                        : N * sizeof(A) % 8 == 0 ? 8
                                                 : 4,
                kOfWord = kWord / static_cast<int>(sizeof(A));
  using Part = Pack<A, kOfWord>;
#pragma unroll
  for (int k = 0; k < N; k += kOfWord) *reinterpret_cast<Part*>(to + k) = *reinterpret_cast<const Part*>(from + k);
}

template <typename T, int N>
RECBLR_HD void widen(const Pack<T, N>& pack, Accumulate<T>* x) {
#pragma unroll
  for (int k = 0; k < N; ++k) x[k] = widen(pack.at[k]);
}
template <int N, typename T>
RECBLR_HD void store_narrow(T* at, const Accumulate<T>* x) {
  Pack<T, N> pack;
#pragma unroll
  for (int k = 0; k < N; ++k) put(pack.at[k], x[k]);
  store_pack(at, pack);
}

// Asynchronous copies of 4, 8 or 16 bytes into shared memory.  They are committed in groups, which arrive in order.
// Copies of 2 bytes, and all copies on sm_75, which has no asynchronous ones, are ordinary copies.
template <int B>
RECBLR_HD void copy_async(void* to, const void* from) {
#if !defined(__CUDACC__)
  if constexpr (B >= 4) return ::cuda_on_host::copy_async(to, from, B);
  std::memcpy(to, from, B);
#else
#if __CUDA_ARCH__ >= 800
  if constexpr (B >= 4) {
    const unsigned at = static_cast<unsigned>(__cvta_generic_to_shared(to));
    if constexpr (B == 16)
      asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(at), "l"(from) : "memory");
    else
      asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(at), "l"(from), "n"(B) : "memory");
    return;
  }
#endif
  using W = typename Word<B>::type;
  *static_cast<W*>(to) = __ldg(static_cast<const W*>(from));
#endif
}
RECBLR_HD void copy_async_commit() {
#if !defined(__CUDACC__)
  ::cuda_on_host::copy_async_commit();
#elif __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
template <int kPending>
RECBLR_HD void copy_async_wait() {
#if !defined(__CUDACC__)
  ::cuda_on_host::copy_async_wait(kPending);
#elif __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
#endif
}

// The packs that a thread will read: kArrays packs per step, kStages - 1 steps ahead.  Each thread copies only for
// itself, so no thread waits for another.
//
//   ring.begin(length, fetch);                  fetch(step, array) gives the address of a pack
//   for each step: ring.next(fetch); ring.get(array, x)
template <typename T, int N, int kArrays, int kStages, int kThreads>
class Ring {
  using Element = Pack<T, N>;

 public:
  static constexpr std::size_t kBytes = sizeof(Element) * kArrays * kStages * kThreads;  // shared memory of a block

  RECBLR_HD explicit Ring(unsigned char* shared) : mine_(reinterpret_cast<Element*>(shared) + threadIdx.x) {}

  template <typename Fetch>
  RECBLR_HD void begin(std::int64_t length, const Fetch& fetch) {
    length_ = length, fetched_ = 0, stage_ = kStages - 1;
    for (int k = 0; k < kStages - 1; ++k) start(k, fetch);
  }
  // Goes to the next step.  It fills the stage of the previous step, whose packs are already in registers.
  template <typename Fetch>
  RECBLR_HD void next(const Fetch& fetch) {
    copy_async_wait<kStages - 2>();
    start(stage_, fetch);
    stage_ = stage_ + 1 == kStages ? 0 : stage_ + 1;
  }
  RECBLR_HD void get(int array, Accumulate<T>* x) const { widen(*at(stage_, array), x); }
  // The packs of this step from the first K arrays, as they are stored.
  template <int K>
  RECBLR_HD void get(Element (&packs)[K]) const {
    static_assert(K <= kArrays, "a step has no more arrays");
#pragma unroll
    for (int k = 0; k < K; ++k) packs[k] = copy_of(at(stage_, k));
  }

 private:
  RECBLR_HD Element* at(int stage, int array) const { return mine_ + (stage * kArrays + array) * kThreads; }
  template <typename Fetch>
  RECBLR_HD void start(int stage, const Fetch& fetch) {
    if (fetched_ < length_) {
#pragma unroll
      for (int k = 0; k < kArrays; ++k)
        if (const T* from = fetch(fetched_, k)) copy_async<sizeof(Element)>(at(stage, k), from);
    }
    ++fetched_;
    copy_async_commit();  // one group per step, even if empty, because the wait counts groups
  }

  Element* mine_;
  std::int64_t length_, fetched_;
  int stage_;
};

}  // namespace recblr::cuda
