// The one place where a build by nvcc and one for the host differ.
//
// Kernels are compiled twice: by nvcc, and by g++ for tests that run them on a CPU (tests/cuda_on_host/shim.h), which
// brings functions of the same names.  What CUDA spells in ways that g++ cannot read is spelled here.
#pragma once
#include <cstddef>
#include <cstdint>

#include "../cpp/core/elements.h"
#include "launch.h"

#define RECBLR_DEVICE
#if defined(__CUDACC__)
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#define RECBLR_HD __device__ __forceinline__
// Memory that a block's threads share: one object of a type that needs no constructor, at most 48 KiB in all, or as
// many bytes as the launch asks for.
#define RECBLR_SHARED(Type, name) __shared__ Type name
#define RECBLR_SHARED_BYTES(name) extern __shared__ __align__(16) unsigned char name[]
#else
#include "shim.h"

#define RECBLR_HD inline __attribute__((always_inline))
#define RECBLR_SHARED(Type, name)                      \
  static const char name##_key = 0;                    \
  Type& name = ::cuda_on_host::shared<Type>(&name##_key)
#define RECBLR_SHARED_BYTES(name) unsigned char* const name = ::cuda_on_host::shared_bytes()
#endif

// What launchers ask too.
#define RECBLR_EVERYWHERE __host__ __device__ __forceinline__

namespace recblr::cuda {

#if defined(__CUDACC__)
constexpr std::size_t kSharedUnasked = 48 * 1024;  // bytes that a launch gets without asking the driver first

template <typename T>
struct Same {
  using type = T;
};
// Enqueues `blocks` blocks of `threads` threads; null, or the error as text.  The launch's own status is read: the
// runtime's last error may be another's.
template <typename... P>
const char* launch(void (*kernel)(P...), std::int64_t blocks, int threads, std::size_t shared, const Launch& to,
                   typename Same<P>::type... parameters) {
  if (blocks == 0) return nullptr;
  if (blocks > 0x7fffffff) return "more blocks than a grid holds";
  const void* function = reinterpret_cast<const void*>(kernel);
  cudaError_t status = cudaSuccess;
  if (shared > kSharedUnasked)
    status = cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared));
  void* pointers[] = {const_cast<void*>(static_cast<const void*>(&parameters))...};
  if (status == cudaSuccess)
    status = cudaLaunchKernel(function, dim3(static_cast<unsigned>(blocks)), dim3(static_cast<unsigned>(threads)), pointers, shared,
                              static_cast<cudaStream_t>(to.stream));
  return status == cudaSuccess ? nullptr : cudaGetErrorString(status);
}

inline int multiprocessors(const Launch& to) {
  int count = 0;
  return cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, to.device) == cudaSuccess ? count : 1;
}
#else
template <typename... P, typename... Q>
const char* launch(void (*kernel)(P...), std::int64_t blocks, int threads, std::size_t shared, const Launch&, Q... parameters) {
  if (blocks > 0x7fffffff) return "more blocks than a grid holds";
  ::cuda_on_host::run(blocks, threads, shared, [&] { kernel(parameters...); });
  return nullptr;
}

inline int multiprocessors(const Launch&) { return ::cuda_on_host::machine.multiprocessors; }
#endif

// Which thread of all this is, and which block; in 64 bits, as everything that indexes.
RECBLR_HD std::int64_t block_index() { return blockIdx.x; }
RECBLR_HD std::int64_t thread_index() { return static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; }
RECBLR_HD std::int64_t thread_count() { return static_cast<std::int64_t>(gridDim.x) * blockDim.x; }

}  // namespace recblr::cuda
