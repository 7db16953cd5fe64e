// torch.ops.recblr.scan and its variants on a CPU.
#include "device_cpu.h"
#include "scan_operators.h"
#include "core/time_split.h"

namespace recblr::torch_abi {
namespace {

struct ScanOnCpu : Cpu {
  using Cpu::Cpu;
  template <typename Work>
  void run(const Work& work) const {
    recblr::run(work, ParallelFor());
  }
};

// If this fails, Python finds no kernel and reports that.
[[maybe_unused]] const bool registered = [] {
  TorchLibraryHandle cpu;  // lives as long as the process
  RECBLR_OK(aoti_torch_library_init_impl("recblr", "CPU", "recblr/cpp/torch/scan_cpu.cpp", 0, &cpu));
  implement_scan<ScanOnCpu>(cpu);
  return true;
}();

}  // namespace
}  // namespace recblr::torch_abi
