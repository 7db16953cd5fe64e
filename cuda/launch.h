// What a CUDA launcher is told beside its work.
//
// Launchers take the CPU kernels' work structs (cpp/core) with device pointers in them.  They only enqueue: on the
// stream that they are given, without waiting for it, and without memory of their own.
#pragma once
#include <cstddef>
#include <cstdint>

namespace recblr::cuda {

// Offsets of packed sequences, on the device: their values are not known to the caller, and not trusted.  Kernels
// bring them into 0 .. N and into order; rows that no sequence then covers get zeros.  The work's extent.offsets stays
// null, extent.sequences is S and extent.rows N.
struct DeviceOffsets {
  const void* data = nullptr;  // (S + 1,); null: not packed
  bool wide = true;            // int64, else int32
  std::int64_t stride = 1;
};

struct Launch {
  void* stream = nullptr;
  int device = 0;
  int regime = 0;  // 0: chosen from shape and device
  // Scratch memory on the device, aligned to 256 bytes, which the caller frees after the launch, on the same stream;
  // null where there is none.
  void* (*allocate)(void* context, std::size_t bytes) = nullptr;
  void* context = nullptr;
};

constexpr const char* kNoMemory = "out of memory on the device";

// Scratch memory for `count` elements, or null.  At least one is asked for: torch answers 0 bytes with null as well.
template <typename T>
T* scratch(const Launch& to, std::int64_t count) {
  return static_cast<T*>(to.allocate(to.context, static_cast<std::size_t>(count > 0 ? count : 1) * sizeof(T)));
}

}  // namespace recblr::cuda
