// The limit on the shared memory that launches of a kernel may ask for.  The driver keeps this limit for each kernel
// and device.  It is low until it is raised.
//
// It is raised once, to the maximum.  Threads that do not know of each other launch the same kernel with different
// sizes.  If the limit followed these sizes, one thread could lower it between another thread's raise and its launch.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace recblr::cuda {

// The limit of one kernel.
class SharedLimit {
 public:
  // Call this before a launch with so many bytes on a device.  Driver has a type Status, in which Status() means
  // success.  Its most(int& bytes) gives the maximum for the kernel on that device; its set(int bytes) sets the limit.
  template <typename Driver>
  typename Driver::Status allow(std::size_t bytes, int device, const Driver& driver) {
    const std::uint64_t bit = device < 64 ? std::uint64_t{1} << device : 0;  // 0: the limit is set each time
    if (bytes == 0 || raised_.load(std::memory_order_acquire) & bit) return {};
    int most = 0;
    typename Driver::Status status = driver.most(most);
    if (status == typename Driver::Status()) status = driver.set(most);
    if (status == typename Driver::Status()) raised_.fetch_or(bit, std::memory_order_release);
    return status;
  }

 private:
  std::atomic<std::uint64_t> raised_{0};  // one bit per device
};

}  // namespace recblr::cuda
