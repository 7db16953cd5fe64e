// How much shared memory a kernel's launches may ask for: a limit that the driver keeps for each kernel and device, and
// that is low until it is raised.
//
// It is raised once, to all that there is: one kernel is launched with different sizes by threads that do not know of
// each other, and a limit that followed the sizes could fall between another's raising it and its launch.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace recblr::cuda {

// Of one kernel.
class SharedLimit {
 public:
  // Before a launch with so many bytes on a device.  Driver has a Status, whose value Status() is success;
  // most(int& bytes), what is there for the kernel on that device; and set(int bytes), which sets the limit.
  template <typename Driver>
  typename Driver::Status allow(std::size_t bytes, int device, const Driver& driver) {
    const std::uint64_t bit = device < 64 ? std::uint64_t{1} << device : 0;  // further ones are raised each time
    if (bytes == 0 || raised_.load(std::memory_order_acquire) & bit) return {};
    int most = 0;
    typename Driver::Status status = driver.most(most);
    if (status == typename Driver::Status()) status = driver.set(most);
    if (status == typename Driver::Status()) raised_.fetch_or(bit, std::memory_order_release);
    return status;
  }

 private:
  std::atomic<std::uint64_t> raised_{0};  // a bit a device
};

}  // namespace recblr::cuda
