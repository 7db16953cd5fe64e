// The limit on the shared memory of a kernel, with a driver that two threads share.  The limit must never fall, and it
// must be high enough at every launch of the kernel.
#include <array>
#include <atomic>
#include <cstdio>
#include <thread>

#include "shared_limit.h"

namespace {

using recblr::cuda::SharedLimit;

std::atomic<int> failures{0};

void expect(bool holds, const char* what) {
  if (!holds) std::printf("%s\n", what), ++failures;
}

constexpr int kMost = 232272, kUnasked = 48 * 1024;

// The limits of one kernel, by device.
struct Devices {
  std::array<std::atomic<int>, 72> limits, sets{};
  std::atomic<int> failing{0};  // number of calls that still have to fail
  Devices() {
    for (auto& limit : limits) limit = kUnasked;
  }
};

struct Driver {
  using Status = int;
  Devices& devices;
  int device;
  Status most(int& bytes) const {
    bytes = kMost - device;
    return 0;
  }
  Status set(int bytes) const {
    if (devices.failing > 0) return --devices.failing, 7;
    const auto at = static_cast<std::size_t>(device);
    expect(devices.limits[at].exchange(bytes) <= bytes, "the limit falls");
    ++devices.sets[at];
    return 0;
  }
};

void launch(SharedLimit& limit, Devices& devices, int device, int bytes) {
  const Driver driver{devices, device};
  expect(limit.allow(static_cast<std::size_t>(bytes), device, driver) == 0, "a launch is refused");
  expect(devices.limits[static_cast<std::size_t>(device)] >= bytes, "a launch asks for more than the limit");
}

}  // namespace

int main() {
  for (int repeat = 0; repeat < 100; ++repeat) {
    SharedLimit limit;
    Devices devices;
    std::atomic<int> ready{0};
    const auto launches = [&](int bytes) {
      for (++ready; ready < 2;) {
      }
      for (int n = 0; n < 200; ++n)
        for (int device : {0, 1, 63, 70}) launch(limit, devices, device, bytes + n);
    };
    std::thread small(launches, 60 * 1024), large(launches, 200 * 1024);
    small.join(), large.join();
    for (std::size_t device : {0, 1, 63}) {
      const int sets = devices.sets[device];
      expect(sets == 1 || sets == 2, "a thread sets the limit more than once");
      expect(devices.limits[device] == kMost - static_cast<int>(device), "the limit is not the maximum");
    }
    expect(devices.limits[2] == kUnasked, "the limit of another device is set");
  }
  SharedLimit limit;
  Devices devices;
  launch(limit, devices, 0, 0);
  expect(devices.sets[0] == 0, "the limit is set without need");
  // The low limit of the driver covers the bytes of a launch and the kernel's own variables together.  So 48 KiB are
  // too many if a kernel has such variables: an H200 answered with "invalid argument".
  launch(limit, devices, 1, kUnasked);
  expect(devices.sets[1] == 1, "a launch of 48 KiB leaves no room for the kernel's own variables");
  devices.failing = 1;
  expect(limit.allow(50000, 0, Driver{devices, 0}) == 7, "a failure is not reported");
  launch(limit, devices, 0, 50000);
  std::printf("limits of shared memory: %d failures\n", failures.load());
  return failures ? 1 : 0;
}
