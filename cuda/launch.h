// The arguments of a CUDA launcher, in addition to its work.
//
// Launchers take the work structs of the CPU kernels (cpp/core), with device pointers in them.  They only enqueue work
// on the given stream.  They do not wait for the stream and own no memory.
#pragma once
#include <cstddef>
#include <cstdint>

namespace recblr::cuda {

// The offsets of packed sequences, on the device.  The caller does not know their values and does not trust them.
// Kernels clamp them to 0 .. N and put them into order.  Rows that no sequence then covers get zeros.  In the work,
// extent.offsets stays null, extent.sequences is S and extent.rows is N.
struct DeviceOffsets {
  const void* data = nullptr;  // (S + 1,); null if not packed
  bool wide = true;            // int64 if true, else int32
  std::int64_t stride = 1;
};

struct Launch {
  void* stream = nullptr;
  int device = 0;
  int regime = 0;  // 0: shape and device decide
  // Returns scratch memory on the device, aligned to 256 bytes, or null if there is none.  The caller frees it after
  // the launch, on the same stream.
  void* (*allocate)(void* context, std::size_t bytes) = nullptr;
  void* context = nullptr;
};

constexpr const char* kNoMemory = "out of memory on the device";

// Scratch memory for `count` elements, or null.  It asks for at least one element, because torch answers 0 bytes with
// null as well.
template <typename T>
T* scratch(const Launch& to, std::int64_t count) {
  return static_cast<T*>(to.allocate(to.context, static_cast<std::size_t>(count > 0 ? count : 1) * sizeof(T)));
}

}  // namespace recblr::cuda
