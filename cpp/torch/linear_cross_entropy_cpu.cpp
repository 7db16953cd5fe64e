// torch.ops.recblr._linear_cross_entropy on a CPU, in float32 and float64 (see scan_cpu.cpp).
//
// The catalogue is divided into blocks of items, and each thread works on its own blocks.  The logits, the embeddings
// and the gradient of a block stay in the cache of one core.  Only the sums of a row over the catalogue go from core to
// core.
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "device_cpu.h"
#include "seen_items.h"
#include "training_arguments.h"
#include "core/training_rows.h"

namespace recblr::torch_abi {
namespace {

// The number of logits that are held at a time, and the fewest rows at a time.  With so many rows, adding up the
// gradient of weight costs less than computing it.
constexpr std::int64_t kLogits = 1 << 19, kFewestRows = 64;

// The number of blocks depends only on the size of the catalogue.  So the order of sums over blocks does not depend on
// the number of threads.
std::int64_t block_count(std::int64_t catalogue) {
  if (catalogue < 1024) return 1 + catalogue / 256;
  return catalogue < 8192 ? 8 : catalogue < 32768 ? 16 : 32;
}

// This value is added to the scores of items that the user of a row already has.  Without histories, nothing is added.
template <typename T>
struct RepeatBias {
  T value = 0;
  const Histories* histories = nullptr;
};

template <typename T>
class LinearCrossEntropy {
 public:
  // hidden (rows, width) and weight (catalogue, width) are contiguous. d_hidden and d_weight have the same shapes and
  // are contiguous too, or they are null.
  LinearCrossEntropy(const Tensor& hidden, const Tensor& weight, const std::int64_t* targets, RepeatBias<T> repeats,
                     T* d_hidden, T* d_weight)
      : like_(hidden),
        rows_(hidden.size(0)),
        catalogue_(weight.size(0)),
        width_(weight.size(1)),
        blocks_(block_count(catalogue_)),
        most_rows_(std::min(rows_, std::max(kFewestRows, kLogits / catalogue_))),
        hidden_(hidden.data<T>()),
        weight_(weight.data<T>()),
        targets_(targets),
        repeats_(repeats),
        d_hidden_(d_hidden),
        d_weight_(d_weight),
        logits_(scratch(most_rows_ * catalogue_)),
        parts_(scratch(d_hidden ? blocks_ * most_rows_ * width_ : 0)),
        scaled_(scratch(d_hidden ? blocks_ * most_rows_ * width_ : 0)),
        most_(static_cast<std::size_t>(blocks_ * most_rows_)),
        total_(most_.size()),
        wanted_(static_cast<std::size_t>(most_rows_)),
        d_bias_(static_cast<std::size_t>(blocks_)) {}

  // The mean over rows of -log softmax(hidden weight^T)[target].
  double operator()() {
    double loss = 0;
    for (std::int64_t start = 0; start < rows_; start += most_rows_) {
      const Rows rows{start, std::min(most_rows_, rows_ - start)};
      over_blocks(rows, [&](std::int64_t block) { forward(rows, block); });
      for (std::int64_t r = 0; r < rows.count; ++r) loss += join(r);
      if (!d_hidden_) continue;
      over_blocks(rows, [&](std::int64_t block) { backward(rows, block); });
      ParallelFor()(rows.count, blocks_ * width_,
                    [&](std::int64_t begin, std::int64_t end) { add_parts(rows, begin, end); });
    }
    return loss / static_cast<double>(rows_);
  }
  // The gradient of the bias.  Call operator() first.
  T d_bias() const {
    double sum = 0;
    for (const double part : d_bias_) sum += part;
    return static_cast<T>(sum);
  }

 private:
  struct Rows {
    std::int64_t start, count;
  };

  Tensor scratch(std::int64_t size) const {
    const std::int64_t one = 1;
    return Tensor::empty(1, &size, &one, like_.dtype(), like_);
  }
  template <typename F>
  void over_blocks(const Rows& rows, const F& f) const {
    ParallelFor()(blocks_, rows.count * catalogue_ / blocks_ * width_ / 16, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t block = begin; block < end; ++block) f(block);
    });
  }
  std::int64_t first(std::int64_t block) const {
    return catalogue_ / blocks_ * block + std::min(block, catalogue_ % blocks_);
  }
  std::int64_t items(std::int64_t block) const { return first(block + 1) - first(block); }
  T* logits(std::int64_t block) const { return logits_.data<T>() + most_rows_ * first(block); }
  T* of_block(const Tensor& t, std::int64_t block) const { return t.data<T>() + block * most_rows_ * width_; }
  std::size_t at(std::int64_t block, std::int64_t r) const { return static_cast<std::size_t>(block * most_rows_ + r); }
  Tensor matrix(const T* data, std::int64_t rows, std::int64_t columns) const {
    return Tensor::over(data, rows, columns, columns, 1, like_);
  }
  Tensor transposed(const T* data, std::int64_t rows, std::int64_t columns) const {
    return Tensor::over(data, columns, rows, 1, columns, like_);
  }

  // Calls f(row of the chunk, item of the block) for rows whose target is in the block.
  template <typename F>
  void over_targets(const Rows& rows, std::int64_t block, const F& f) const {
    for (std::int64_t r = 0; r < rows.count; ++r) {
      const std::int64_t item = targets_[rows.start + r] - first(block);
      if (item >= 0 && item < items(block)) f(r, item);
    }
  }

  // Calls f(row of the chunk, the items of the block that its user has).
  template <typename F>
  void over_seen(const Rows& rows, std::int64_t block, const F& f) const {
    if (!repeats_.histories) return;
    SeenItems seen(*repeats_.histories, first(block), items(block));
    for (std::int64_t r = 0; r < rows.count; ++r) {
      seen.go_to(rows.start + r);
      f(r, seen);
    }
  }

  void forward(const Rows& rows, std::int64_t block) {
    const std::int64_t n = items(block);
    T* const scores = logits(block);  // kept, because the function calls torch
    multiply(matrix(scores, rows.count, n), matrix(hidden_ + rows.start * width_, rows.count, width_),
             transposed(weight_ + first(block) * width_, n, width_), false);
    over_seen(rows, block, [&](std::int64_t r, const SeenItems& seen) {
      for (const std::int64_t item : seen.items()) scores[r * n + item] += repeats_.value;
    });
    over_targets(rows, block, [&](std::int64_t r, std::int64_t item) {
      wanted_[static_cast<std::size_t>(r)] = scores[r * n + item];
    });
    compute(SoftmaxPart<T>{scores, n, &most_[at(block, 0)], &total_[at(block, 0)]}, {0, rows.count});
  }

  // The loss of a row, from the values of its blocks.  Then total is the factor that turns the exponentials of a block
  // into shares of the mean.
  double join(std::int64_t r) {
    T most = most_[at(0, r)], total = 0;
    for (std::int64_t block = 1; block < blocks_; ++block) most = std::max(most, most_[at(block, r)]);
    for (std::int64_t block = 0; block < blocks_; ++block) {
      T& share = most_[at(block, r)];
      share = share == most ? T(1) : std::exp(share - most);
      total += total_[at(block, r)] * share;
    }
    for (std::int64_t block = 0; block < blocks_; ++block)
      total_[at(block, r)] = most_[at(block, r)] / (total * static_cast<T>(rows_));
    return static_cast<double>(std::log(total) - (wanted_[static_cast<std::size_t>(r)] - most));
  }

  void backward(const Rows& rows, std::int64_t block) {
    const std::int64_t n = items(block);
    const T *hidden = hidden_ + rows.start * width_, *weight = weight_ + first(block) * width_,
            *share = &total_[at(block, 0)];
    const T* const exponentials = logits(block);  // `forward` replaced the logits by these
    T *part = of_block(parts_, block), *scaled = of_block(scaled_, block),
      *d_weight = d_weight_ + first(block) * width_;
    const T one = T(1) / static_cast<T>(rows_);
    over_seen(rows, block, [&](std::int64_t r, const SeenItems& seen) {
      T sum = 0;
      for (const std::int64_t item : seen.items()) sum += exponentials[r * n + item];
      const std::int64_t target = targets_[rows.start + r] - first(block);
      const bool repeated = target >= 0 && target < n && seen.has(target);
      d_bias_[static_cast<std::size_t>(block)] += sum * share[r] - (repeated ? one : T(0));
    });
    for (std::int64_t r = 0; r < rows.count; ++r)
      for (std::int64_t k = 0; k < width_; ++k) scaled[r * width_ + k] = hidden[r * width_ + k] * share[r];
    multiply(matrix(part, rows.count, width_), matrix(exponentials, rows.count, n), matrix(weight, n, width_), false);
    multiply(matrix(d_weight, n, width_), transposed(exponentials, rows.count, n), matrix(scaled, rows.count, width_),
             rows.start > 0);
    for (std::int64_t r = 0; r < rows.count; ++r)
      for (std::int64_t k = 0; k < width_; ++k) part[r * width_ + k] *= share[r];
    over_targets(rows, block, [&](std::int64_t r, std::int64_t item) {
      for (std::int64_t k = 0; k < width_; ++k) {
        part[r * width_ + k] -= weight[item * width_ + k] * one;
        d_weight[item * width_ + k] -= hidden[r * width_ + k] * one;
      }
    });
  }

  void add_parts(const Rows& rows, std::int64_t begin, std::int64_t end) {
    for (std::int64_t block = 0; block < blocks_; ++block) {
      const T* part = of_block(parts_, block);
      T* sum = d_hidden_ + rows.start * width_;
      for (std::int64_t i = begin * width_; i < end * width_; ++i) sum[i] = block ? sum[i] + part[i] : part[i];
    }
  }

  const Tensor& like_;
  std::int64_t rows_, catalogue_, width_, blocks_, most_rows_;
  const T *hidden_, *weight_;
  const std::int64_t* targets_;
  RepeatBias<T> repeats_;
  T *d_hidden_, *d_weight_;
  Tensor logits_, parts_, scaled_;
  std::vector<T> most_, total_, wanted_;
  std::vector<double> d_bias_;
};

std::vector<std::int64_t> read_integers(const std::string& op, const char* name, const Tensor& t) {
  if (t.dim() != 1 || t.dtype() != aoti_torch_dtype_int64())
    refuse(op + ": " + name + " must be int64 of one dimension, but is " + dtype_name(t.dtype()) + " of shape " +
           shape(t));
  return read_offsets<std::int64_t>(t);
}

// The user of row r has the items of its history up to the event rows[r].  Without rows, row r is event r.
Histories read_histories(const std::string& op, const Tensor& items, const Tensor& offsets, const Tensor& rows,
                         std::int64_t count) {
  if (!items || !offsets) refuse(op + ": repeat_bias must come with items and offsets");
  Histories h;
  h.items = read_integers(op, "items", items);
  const std::vector<std::int64_t> cuts = read_integers(op, "offsets", offsets);
  const std::string problem = offsets_problem(cuts.data(), cuts.size(), items.size(0));
  if (!problem.empty()) refuse(op + ": " + problem);
  const std::vector<std::int64_t> events = rows ? read_integers(op, "rows", rows) : std::vector<std::int64_t>();
  const std::int64_t given = rows ? rows.size(0) : items.size(0);
  if (given != count)
    refuse(op + ": " + (rows ? "rows" : "items") + " must have shape (" + std::to_string(count) +
           ",), one per row of hidden, but has (" + std::to_string(given) + ",)");
  for (std::int64_t r = 0; r < count; ++r) {
    const std::int64_t event = rows ? events[static_cast<std::size_t>(r)] : r;
    if (event < 0 || event >= items.size(0))
      refuse(op + ": rows must lie in 0.." + std::to_string(items.size(0) - 1) + ", but one is " +
             std::to_string(event));
    h.begin.push_back(*(std::upper_bound(cuts.begin(), cuts.end(), event) - 1));
    h.end.push_back(event + 1);
  }
  return h;
}

// _linear_cross_entropy(Tensor hidden, Tensor weight, Tensor targets, bool gradients, Tensor? repeat_bias=None,
//   Tensor? items=None, Tensor? offsets=None, Tensor? rows=None)
//   -> (Tensor loss, Tensor d_hidden, Tensor d_weight, Tensor d_bias)
void linear_cross_entropy(StableIValue* stack, std::uint64_t, std::uint64_t) {
  const std::string op = "linear_cross_entropy";
  // Take all tensors before the first check: a check that throws would leave the others without an owner.
  const Tensor hidden = Tensor::required(stack[0]), weight = Tensor::required(stack[1]);
  const Tensor targets = Tensor::required(stack[2]);
  const Tensor bias = Tensor::optional(stack[4]), items = Tensor::optional(stack[5]);
  const Tensor offsets = Tensor::optional(stack[6]), of_rows = Tensor::optional(stack[7]);
  const bool gradients = unbox<bool>(stack[3]);
  if (hidden.dim() != 2 || weight.dim() != 2 || hidden.size(1) != weight.size(1))
    refuse(op + ": hidden must be (N, D) and weight (V, D), but have shapes " + shape(hidden) + " and " +
           shape(weight));
  if (!is_contiguous(hidden) || !is_contiguous(weight)) refuse(op + ": hidden and weight must be contiguous");
  if (hidden.dtype() != weight.dtype())
    refuse(op + ": hidden and weight must have one dtype, but have " + dtype_name(hidden.dtype()) + " and " +
           dtype_name(weight.dtype()));
  const std::int64_t rows = hidden.size(0), catalogue = weight.size(0);
  if (targets.dim() != 1 || targets.size(0) != rows)
    refuse(op + ": targets must have shape (" + std::to_string(rows) + ",), one target per row, but has " +
           shape(targets));
  if (targets.dtype() != aoti_torch_dtype_int64())
    refuse(op + ": targets must be int64, but is " + dtype_name(targets.dtype()));
  if (rows > 0 && catalogue == 0) refuse(op + ": weight must have at least one item, but has shape " + shape(weight));
  const std::vector<std::int64_t> wanted = read_offsets<std::int64_t>(targets);
  for (const std::int64_t target : wanted)
    if (target < 0 || target >= catalogue)
      refuse(op + ": targets must lie in 0.." + std::to_string(catalogue - 1) + ", but one is " +
             std::to_string(target));

  Histories histories;
  if (bias) {
    if (bias.dim() != 0 || bias.dtype() != hidden.dtype())
      refuse(op + ": repeat_bias must be one " + dtype_name(hidden.dtype()) + ", hidden's dtype, but is " +
             dtype_name(bias.dtype()) + " of shape " + shape(bias));
    histories = read_histories(op, items, offsets, of_rows, rows);
  }

  const std::int64_t none[2] = {0, 0}, one = 1;
  Tensor loss = Tensor::empty(0, &one, &one, aoti_torch_dtype_float64(), hidden);
  Tensor d_hidden = Tensor::empty(2, gradients ? hidden.sizes() : none, hidden.strides(), hidden.dtype(), hidden);
  Tensor d_weight = Tensor::empty(2, gradients ? weight.sizes() : none, weight.strides(), weight.dtype(), weight);
  Tensor d_bias = Tensor::empty(0, &one, &one, hidden.dtype(), hidden);
  with_float_or_double(op, "hidden", hidden, [&](auto element) {
    using T = typename decltype(element)::type;
    T *to_hidden = gradients ? d_hidden.data<T>() : nullptr, *to_weight = gradients ? d_weight.data<T>() : nullptr;
    if (rows == 0)
      for (std::int64_t i = 0; i < d_weight.numel(); ++i) to_weight[i] = 0;
    *loss.data<double>() = *d_bias.data<T>() = 0;
    if (rows == 0) return;
    RepeatBias<T> repeats;
    if (bias) repeats = {*bias.data<T>(), &histories};
    LinearCrossEntropy<T> cross_entropy(hidden, weight, wanted.data(), repeats, to_hidden, to_weight);
    *loss.data<double>() = cross_entropy();
    *d_bias.data<T>() = cross_entropy.d_bias();
  });
  stack[0] = loss.release();
  stack[1] = d_hidden.release();
  stack[2] = d_weight.release();
  stack[3] = d_bias.release();
}

[[maybe_unused]] const bool registered = [] {
  TorchLibraryHandle cpu;  // lives as long as the process
  RECBLR_OK(aoti_torch_library_init_impl("recblr", "CPU", "recblr/cpp/torch/linear_cross_entropy_cpu.cpp", 0, &cpu));
  RECBLR_OK(torch_library_impl(cpu, "_linear_cross_entropy", &linear_cross_entropy, kVersion));
  return true;
}();

}  // namespace
}  // namespace recblr::torch_abi
