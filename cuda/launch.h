// What every launcher takes beside its work: where to launch it, and where scratch memory comes from.
#pragma once
#include <cstddef>
#include <cstdint>

namespace recblr::cuda {

// Packed sequences' offsets (S + 1), int64 where wide, else int32, `stride` elements apart, in device memory; null where
// nothing is packed.  Extent::offsets is then null too, Extent::sequences S and Extent::length the number of rows N.
// Nobody has checked the values: kernels clamp each to 0..N and to the one before it, and write zeros to the rows that
// no sequence covers.
struct DeviceOffsets {
  const void* data = nullptr;
  bool wide = true;
  std::int64_t stride = 1;
};

// stream is a cudaStream_t of `device`, which is the current one.  regime: 0 chooses by shape and device, 1 to 3 force.
// allocate gives device memory, aligned to 256 bytes, that the caller frees on the stream after the launch; null where
// there is none left.
struct Launch {
  void* stream;
  int device;
  int regime;
  void* (*allocate)(void* context, std::size_t bytes);
  void* context;
};

}  // namespace recblr::cuda
