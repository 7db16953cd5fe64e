// torch.ops.recblr._causal_conv1d and its derivative on a CPU.
#include "causal_conv1d_operators.h"
#include "device_cpu.h"

namespace recblr::torch_abi {
namespace {

struct ConvOnCpu : Cpu {
  using Cpu::Cpu;
  template <typename T>
  void forward(const ConvForward<T>& work) const {
    over_tasks(Tasks(work.in.extent, true), [&](const Task& task) { compute(work, task); });
  }
  template <typename T>
  void backward(ConvBackward<T> work, const Tensor& dweight, const Tensor& dbias) const {
    using A = Accumulate<T>;
    const Tasks tasks(work.in.extent, true);
    const std::int64_t channels = work.in.extent.channels, width = work.in.width;
    std::vector<double> dtaps(static_cast<std::size_t>(tasks.runs() * width * channels));
    std::vector<double> dbiases(static_cast<std::size_t>(tasks.runs() * channels));
    work.dtaps = dtaps.data(), work.dbias = dbiases.data();
    over_tasks(tasks, [&](const Task& task) { compute(work, task); });
    std::vector<A> sums(static_cast<std::size_t>(width * channels));
    add_runs(dtaps, tasks.runs(), width * channels, sums.data());
    for (std::int64_t k = 0; k < width; ++k)
      for (std::int64_t c = 0; c < channels; ++c)
        dweight.data<A>()[c * width + k] = sums[static_cast<std::size_t>(k * channels + c)];
    add_runs(dbiases, tasks.runs(), channels, dbias.data<A>());
  }
};

[[maybe_unused]] const bool registered = [] {
  TorchLibraryHandle cpu;  // lives as long as the process
  RECBLR_OK(aoti_torch_library_init_impl("recblr", "CPU", "recblr/cpp/torch/causal_conv1d_cpu.cpp", 0, &cpu));
  implement_causal_conv1d<ConvOnCpu>(cpu);
  return true;
}();

}  // namespace
}  // namespace recblr::torch_abi
