// AttentionRig: random queries, keys and values through an attention backend, as a step program of one or two
// layers, and the oracle that knows what must come out.
#pragma once

#include <optional>

#include "conformance/conformance.h"
#include "conformance/rig.h"

namespace lockstep::conformance {

// Which blocks of 64 tokens a row may choose (kernels/block_selection).
struct BlockRule {
  int32_t init = 1;
  int32_t window = 1;
  int32_t most = 4;
  int32_t dense_len = 0;
};

struct AttentionOptions {
  KvLayout layout;
  DType dtype = DType::kF32;
  int32_t page_tokens = 16;
  int32_t heads = 4;
  int32_t kv_heads = 2;
  int32_t head_dim = 64;
  int32_t layers = 1;
  int32_t num_pages = 24;
  int32_t max_seqs = 4;
  int32_t max_rows = 48;
  int32_t max_seq_len = 128;
  int threads = 2;
  Pace pace = Pace::kAtOnce;
  GuardLevel level = GuardLevel::kReplay;
  std::vector<const DerivedSpec*> derived{};  // what the backend derives
  int32_t top_pages = 0;                      // > 0: a row attends to its best pages alone (sparse_pages.h)
  std::optional<BlockRule> blocks{};          // a row attends to chosen blocks, of each kv head its own
  StateGeometry behind_pages;  // slots > 0: states of this size lie between the pages of a shared pool
};

// Keys and values of one layer of one sequence as the cache rounds them, oldest first.
struct KeptKv {
  std::vector<float> keys;    // [n, K, D]
  std::vector<float> values;  // [n, K, D]
};

// One row of attention in f64. `q` [H, D] sees the first `n` tokens of `kv`; `out` [H, D], and `bound` [H]:
// how far f32 sums may stray.
struct AttentionShape {
  int32_t heads = 0;
  int32_t kv_heads = 0;
  int32_t head_dim = 0;
  double scale = 1;
};
void attend(const AttentionShape& shape, std::span<const float> q, const KeptKv& kv, int32_t n,
            std::span<double> out, std::span<double> bound);

// The tokens of the `top` pages whose mean keys have the largest sums of products with q [H, D], by all
// heads.
KeptKv best_pages(const AttentionShape& shape, std::span<const float> q, const KeptKv& kv,
                  int32_t page_tokens, int32_t top);

// The tokens that the query heads q [G, D] of one kv head choose at the last token of `kv` (of that head
// alone, rounded to `dtype` as means are): in f64, sorted.
KeptKv chosen_blocks(const AttentionShape& shape, std::span<const float> q, const KeptKv& kv, DType dtype,
                     const BlockRule& rule);

// Thread: one owner.
class AttentionRig {
 public:
  using Options = AttentionOptions;
  using Candidate = AttentionCandidate;
  // Errors: as the candidate's make().
  static Result<std::unique_ptr<AttentionRig>> create(const AttentionCandidate& candidate,
                                                      const AttentionOptions& options);
  ~AttentionRig();

  // Runs one step on new random rows. Errors: as the contract; kInternal where a row is not what the oracle
  // says or a pad row is not zero.
  Status step(const RigStep& step);

  int32_t begin();
  void end(int32_t sequence);
  Status decode(std::span<const int32_t> sequences, int32_t bucket, Mode mode, bool compare = true) {
    return step(decode_step(sequences, bucket, mode, compare));
  }
  Planner& planner() { return rig_->planner(); }
  Rig& rig() { return *rig_; }
  const StepPlan& plan() const { return plan_; }
  // What the last step wrote, [layers, bucket rows, H, D], and a digest of what all steps wrote for live
  // rows.
  const std::vector<float>& out() const { return out_; }
  Digest digest() const { return digest_; }

 private:
  class Program;
  AttentionRig(const AttentionOptions& options, std::unique_ptr<Rig> rig);
  int64_t width() const;  // of an input row: q, k, v and a gap that nobody owns
  Status allocate(const AttentionBackend& backend);
  Status fill(const RigStep& step);
  void keep(int32_t sequence, int32_t layer, std::span<const float> row);
  Status collect(const RigStep& step);
  Status compare_row(int32_t sequence, int32_t position, int32_t layer, int64_t row) const;
  Status check_pads(int64_t live) const;
  // What a row must be: [H, D], and how far each head may stray.
  void expect_row(const KeptKv& kept, std::span<const float> q, int32_t position, std::span<double> want,
                  std::span<double> bound) const;
  std::span<const float> row_of(int32_t layer, int64_t row) const;

  AttentionOptions options_;
  std::unique_ptr<Rig> rig_;
  std::unique_ptr<AttentionBackend> backend_;
  std::unique_ptr<Program> program_;
  TensorView input_;      // [layers, T, width] f32
  TensorView output_;     // [layers, T + 1, H, D] f32: behind the last row stands a canary
  TensorView workspace_;  // u8
  StepPlan plan_;
  std::vector<std::vector<KeptKv>> kept_;  // [sequences][layers]
  std::vector<float> in_;                  // the step's input rows, as input_
  std::vector<float> out_;
  Digest digest_ = 0;
};

}  // namespace lockstep::conformance
