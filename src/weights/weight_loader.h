// From a checkpoint to the weights that kernels read. A model family lists its weights as data (a
// WeightPlan); the loader checks the list against the checkpoint, sizes one arena, and fills it.
//
//   WeightPlan plan;
//   plan.tensors.push_back({.into = &layer.input_norm, .name = p + "input_layernorm.weight", .shape = {E},
//                           .fill = WeightFill::kNormPlain, .part = "norms"});
//   plan.matrices.push_back({.into = &layer.qkv, .name = "layers.0.qkv", .k = E, .dtype = DType::kBF16,
//                            .parts = {{.name = p + "q_proj.weight", .rows = H * D},
//                                      {.name = p + "k_proj.weight", .rows = K * D},
//                                      {.name = p + "v_proj.weight", .rows = K * D}},
//                            .part = "attention"});
//   LoadedWeights weights = LS_TRY(load_weights(plan, checkpoint, {.threads = 2}));
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "device/arena.h"
#include "diag/progress.h"
#include "kernels/linear/packed_weight.h"
#include "tensor/tensor.h"
#include "weights/checkpoint.h"
#include "weights/quantisation.h"

namespace lockstep {

// Which values a weight gets when there is no checkpoint (--load-format dummy), so that activations stay
// finite and of the size that trained weights give.
enum class WeightFill : uint8_t {
  kMatrix,           // uniform, variance 1 / inputs: |w| < sqrt(3 / inputs); inputs = the last dimension
  kNormPlain,        // 1 +- 0.1
  kNormZeroCentred,  // 0 +- 0.1
  kDecayLog,         // A_log: uniform in [0, ln 16]
  kTimeStepBias,     // dt_bias: uniform in [-6.9, -2.25], whose softplus is 0.001 to 0.1
};

// `count` rows of a source tensor from row `begin` on, or of zeros that no tensor gives.
struct RowRun {
  int64_t begin = 0;  // kZeroRows: zeros
  int64_t count = 0;
};
inline constexpr int64_t kZeroRows = -1;

// What is taken of a source along one dimension is a share of `whole` from `begin` on. 0: it is all there is.
struct Cut {
  int64_t begin = 0;
  int64_t whole = 0;
};

// Rows that one source tensor gives to a matrix.
struct WeightPart {
  // Name in the checkpoint, as it is when its numbers are plain; quantised, it has the tensors that
  // stored_matrix.h lists. In a weight of several experts either it holds "{}", which stands for the number
  // of the expert, and names one [rows, K] tensor for each, or it names one packed [X, rows, K] tensor.
  std::string name;
  int64_t rows = 0;             // rows of the source (of each expert)
  std::vector<RowRun> order{};  // which of them, in this order, all others left out; empty: all, as they are
};

// A matrix, or one matrix per expert, made of parts stacked along N. A rank's share of a matrix takes rows by
// the parts' orders, and columns and experts by cuts.
struct MatrixTarget {
  PackedWeight* into = nullptr;  // set by the loader; must stay where it is until the loader returns
  std::string name{};            // for messages and `inspect`: "layers.3.qkv"
  int64_t k = 0;                 // inputs
  int64_t experts = 1;
  DType dtype = DType::kBF16;  // f32, f16 or bf16, whatever the checkpoint holds
  WeightLayout layout = WeightLayout::kPanel32;
  std::vector<WeightPart> parts{};
  // Another form that a checkpoint may have (packed experts); taken when its first tensor is there and the
  // first tensor of `parts` is not. Both must give the same number of rows.
  std::vector<WeightPart> otherwise{};
  std::string part{};  // summed up by `inspect`: "attention", "experts"
  Cut inputs{};        // of the source's columns: [begin, begin + k)
  Cut held{};          // of the source's experts: [begin, begin + experts)

  int64_t stored_k() const { return inputs.whole > 0 ? inputs.whole : k; }
  int64_t stored_experts() const { return held.whole > 0 ? held.whole : experts; }
};

// A dense f32 tensor: norms, gates, biases, convolutions.
struct TensorTarget {
  TensorView* into = nullptr;   // set by the loader; must stay where it is until the loader returns
  std::string name{};           // in the checkpoint
  Shape shape{};                // as the model reads it
  Shape stored{};               // as on disk, the same elements ([C, 1, 4] for [C, 4]); rank 0: `shape`
  std::vector<RowRun> order{};  // which rows of `stored`, in this order, all others left out; empty: all
  WeightFill fill = WeightFill::kMatrix;
  std::string part{};
};

struct WeightPlan {
  std::string family{};         // for messages: "qwen3"
  Quantisation quantisation{};  // how the checkpoint's codes are to be read, where it has some
  std::vector<TensorTarget> tensors{};
  std::vector<MatrixTarget> matrices{};
  // Names a checkpoint may hold though the model does not read them: "mtp.", a tied lm_head. Null: none.
  std::function<bool(std::string_view name)> may_ignore{};
};

// What one weight takes of the arena.
struct WeightBytes {
  std::string name;
  std::string part;
  int64_t bytes = 0;
};

// One line per weight, matrices first. Needs no checkpoint.
std::vector<WeightBytes> weight_bytes(const WeightPlan& plan);

// The same summed up by part, in the order in which parts first occur; `name` is empty.
std::vector<WeightBytes> weight_bytes_by_part(const WeightPlan& plan);

// Bytes of arena that the plan takes.
// Errors: kInvalidArgument for a weight without rows or inputs, an order or a cut that leaves its source,
//         forms of different rows; kResourceExhausted for sizes beyond 2^62 bytes.
Result<int64_t> weight_footprint(const WeightPlan& plan);

// Everything that load_weights refuses before it reads data.
// Errors: kNotFound for a tensor that is missing; kInvalidArgument for a shape or dtype that does not fit,
//         codes that plan.quantisation does not explain, or a tensor that nobody reads and the family does
//         not ignore: a bias that is left out is a wrong answer, not a warning (docs/decisions/0007).
Status check_weights(const WeightPlan& plan, const Checkpoint& checkpoint);

struct LoadOptions {
  int threads = 1;             // readers and packers
  DevicePtr device{};          // whose memory they end in; null: the CPU's
  ProgressOptions progress{};  // where the progress line goes; silent below two seconds
};

// Weights in memory. The views that a plan's targets point to live as long as `arena`.
struct LoadedWeights {
  Arena arena;
  int64_t bytes = 0;            // filled, without padding
  int64_t bytes_read = 0;       // from the checkpoint's tensors
  int64_t ignored_tensors = 0;  // that the family let pass
  double seconds = 0;
};

// How the matrices of a part are held on disk.
struct StoredPart {
  std::string part;
  std::string form;     // "bf16", "fp8 in blocks of 128 x 128"
  int64_t tensors = 0;  // those of scales and zero points included
  int64_t bytes = 0;    // of them, whatever this rank takes of them
  int64_t memory = 0;   // that this rank's share takes, without padding
};

// One line per part and form, in the order in which they first occur. Precondition: check_weights is ok.
std::vector<StoredPart> stored_by_part(const WeightPlan& plan, const Checkpoint& checkpoint);

// The narrowest type that holds every matrix of the plan exactly, f32 for codes; nothing where the checkpoint
// has none of them.
std::optional<DType> exact_dtype_of(const WeightPlan& plan, const Checkpoint& checkpoint);

// Reads, converts (round to nearest even) and packs all weights of the plan.
// Errors: as weight_footprint and check_weights; kResourceExhausted for the arena; kInvalidArgument for a
//         file that shrinks or changes meanwhile, or scales and groups that read_block refuses. On an error
//         the targets are untouched or dangling: drop them.
// Cost:   one pass over the bytes that the plan names and no others; `threads` threads with 1 MiB of staging
//         each, and 16 for the codes of a quantised matrix. What is cut is read run by run.
Result<LoadedWeights> load_weights(const WeightPlan& plan, const Checkpoint& checkpoint,
                                   const LoadOptions& options);

// Fills all weights of the plan with pseudo-random values. A value depends on the seed, the name of its
// source tensor in `parts`, and its place in it: not on threads, layout, the other weights, or what else is
// taken of the tensor. Errors: as weight_footprint; kResourceExhausted for the arena.
Result<LoadedWeights> make_dummy_weights(const WeightPlan& plan, uint64_t seed, const LoadOptions& options);

}  // namespace lockstep
