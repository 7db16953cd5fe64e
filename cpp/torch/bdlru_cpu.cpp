// torch.ops.recblr._bdlru and its derivative on a CPU.
#include "bdlru_operators.h"
#include "device_cpu.h"

namespace recblr::torch_abi {
namespace {

struct BdlruOnCpu : Cpu {
  using Cpu::Cpu;
  template <typename T>
  void forward(const BdlruForward<T>& work) const {
    over_tasks(Tasks(work.in.extent), [&](const Task& task) { compute(work, task); });
  }
  template <typename T>
  void backward(BdlruBackward<T> work, const Tensor& ddecay) const {
    const Extent& e = work.in.extent;
    Tasks tasks(e);
    if (work.dscale) tasks.join_channels();
    std::vector<double> parts(static_cast<std::size_t>(tasks.runs() * e.channels));
    work.ddecay = parts.data();
    over_tasks(tasks, [&](const Task& task) { compute(work, task); });
    add_runs(parts, tasks.runs(), e.channels, ddecay.data<Accumulate<T>>());
  }
};

[[maybe_unused]] const bool registered = [] {
  TorchLibraryHandle cpu;  // lives as long as the process
  RECBLR_OK(aoti_torch_library_init_impl("recblr", "CPU", "recblr/cpp/torch/bdlru_cpu.cpp", 0, &cpu));
  implement_bdlru<BdlruOnCpu>(cpu);
  return true;
}();

}  // namespace
}  // namespace recblr::torch_abi
