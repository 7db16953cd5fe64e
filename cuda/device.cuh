// The only file that differs between a build by nvcc and a build for the host.
//
// Kernels are compiled twice: by nvcc, and by g++ for tests that run them on a CPU.  For g++, tests/cuda_on_host/shim.h
// provides functions of the same names.  This file wraps the CUDA syntax that g++ cannot read.
#pragma once
#include <cstddef>
#include <cstdint>

#include "core/elements.h"
#include "launch.h"
#include "shared_limit.h"

#define RECBLR_DEVICE
#if defined(__CUDACC__)
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#define RECBLR_HD __device__ __forceinline__
// Memory that the threads of a block share.  RECBLR_SHARED is one object of a type without a constructor, at most 48
// KiB in all.  RECBLR_SHARED_BYTES has as many bytes as the launch asks for.
#define RECBLR_SHARED(Type, name) __shared__ Type name
#define RECBLR_SHARED_BYTES(name) extern __shared__ __align__(16) unsigned char name[]
#else
#include "shim.h"

#define RECBLR_HD inline __attribute__((always_inline))
#define RECBLR_SHARED(Type, name)   \
  static const char name##_key = 0; \
  Type& name = ::cuda_on_host::shared<Type>(&name##_key)
#define RECBLR_SHARED_BYTES(name) unsigned char* const name = ::cuda_on_host::shared_bytes()
#endif

// Marks functions that launchers on the host call too.
#define RECBLR_EVERYWHERE __host__ __device__ __forceinline__

namespace recblr::cuda {

#if defined(__CUDACC__)
// The driver for SharedLimit: the limit of one kernel on shared memory. `device` must be the current device.
struct SharedOfKernel {
  using Status = cudaError_t;
  const void* kernel;
  int device;
  // The shared memory of a block, less the kernel's own variables.
  Status most(int& bytes) const {
    cudaFuncAttributes of_kernel;
    if (const Status status = cudaFuncGetAttributes(&of_kernel, kernel)) return status;
    const Status status = cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
    bytes -= static_cast<int>(of_kernel.sharedSizeBytes);
    return status;
  }
  Status set(int bytes) const {
    return cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  }
};

template <typename T>
struct Same {
  using type = T;
};
// P are the parameter types of the kernel; arguments are converted to them.
template <auto kernel, typename... P>
const char* launch_as(void (*)(P...), std::int64_t blocks, int threads, std::size_t shared, const Launch& to,
                      typename Same<P>::type... parameters) {
  if (blocks == 0) return nullptr;
  if (blocks > 0x7fffffff) return "more blocks than a grid holds";
  static SharedLimit limit;
  const void* function = reinterpret_cast<const void*>(kernel);
  cudaError_t status = limit.allow(shared, to.device, SharedOfKernel{function, to.device});
  void* pointers[] = {const_cast<void*>(static_cast<const void*>(&parameters))...};
  const dim3 grid(static_cast<unsigned>(blocks)), block(static_cast<unsigned>(threads));
  if (status == cudaSuccess)
    status = cudaLaunchKernel(function, grid, block, pointers, shared, static_cast<cudaStream_t>(to.stream));
  return status == cudaSuccess ? nullptr : cudaGetErrorString(status);
}

// Enqueues `blocks` blocks of `threads` threads.  Returns null, or the error as text.  It uses the status of the launch
// itself, because the last error of the runtime may come from another call.
template <auto kernel, typename... Q>
const char* launch(std::int64_t blocks, int threads, std::size_t shared, const Launch& to, const Q&... arguments) {
  return launch_as<kernel>(kernel, blocks, threads, shared, to, arguments...);
}

inline int multiprocessors(const Launch& to) {
  int count = 0;
  return cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, to.device) == cudaSuccess ? count : 1;
}
#else
template <auto kernel, typename... Q>
const char* launch(std::int64_t blocks, int threads, std::size_t shared, const Launch&, const Q&... arguments) {
  if (blocks > 0x7fffffff) return "more blocks than a grid holds";
  ::cuda_on_host::run(blocks, threads, shared, [&] { kernel(arguments...); });
  return nullptr;
}

inline int multiprocessors(const Launch&) { return ::cuda_on_host::machine.multiprocessors; }
#endif

// The number of this thread among all threads, and of its block, in 64 bits like every index.
RECBLR_HD std::int64_t block_index() { return blockIdx.x; }
RECBLR_HD std::int64_t thread_index() { return static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; }
RECBLR_HD std::int64_t thread_count() { return static_cast<std::int64_t>(gridDim.x) * blockDim.x; }

}  // namespace recblr::cuda
