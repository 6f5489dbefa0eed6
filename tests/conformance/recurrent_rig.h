// RecurrentRig: random inputs through a recurrent backend, as a step program, and the oracle: the convolution
// and the gated delta rule, or lightning attention, row by row in f64, with a state per sequence that no
// kernel has seen.
#pragma once

#include "conformance/conformance.h"
#include "conformance/rig.h"

namespace lockstep::conformance {

struct RecurrentOptions {
  RecurrentKind kind = RecurrentKind::kDelta;  // the candidate's
  int32_t key_heads = 2;  // of keys; of queries too in DeltaNet, of values too in lightning attention
  int32_t value_heads = 4;
  int32_t key_dim = 64;
  int32_t value_dim = 64;
  int32_t conv_width = 4;
  int32_t layers = 1;
  int32_t slots = 8;
  int32_t max_seqs = 4;
  int32_t max_rows = 160;
  int32_t max_seq_len = 512;
  int threads = 2;
  Pace pace = Pace::kAtOnce;
  GuardLevel level = GuardLevel::kReplay;
  int64_t slot_gap = 0;  // > 0: states lie behind pages of a shared pool, at least so many bytes apart

  bool lightning() const { return kind == RecurrentKind::kLightning; }
  int32_t query_heads() const { return lightning() ? value_heads : key_heads; }
  // Columns of q | k | v, and where k and v begin.
  int32_t keys() const { return query_heads() * key_dim; }
  int32_t values() const { return keys() + key_heads * key_dim; }
  int32_t channels() const { return values() + (lightning() ? key_heads : value_heads) * value_dim; }
};

// What one layer has learned: the weights, and how a sequence's state goes on.
struct DeltaWeights {
  std::vector<float> conv;     // [C, W]
  std::vector<float> a_log;    // [Hv]; the decays themselves in lightning attention
  std::vector<float> dt_bias;  // [Hv]
};
struct DeltaState {
  std::vector<float> inputs;   // [W - 1, C], oldest first
  std::vector<double> memory;  // [Hv, Dk, Dv]
};
// One row: `x` [C], `b` and `a` [Hv]; `out` [Hv, Dv].
struct DeltaRow {
  std::span<const float> x, b, a;
};
void advance(const RecurrentOptions& options, const DeltaWeights& weights, const DeltaRow& row,
             DeltaState& state, std::span<double> out);

// Thread: one owner.
class RecurrentRig {
 public:
  using Options = RecurrentOptions;
  using Candidate = RecurrentCandidate;
  static Result<std::unique_ptr<RecurrentRig>> create(const RecurrentCandidate& candidate,
                                                      const RecurrentOptions& options);
  ~RecurrentRig();

  // As AttentionRig::step.
  Status step(const RigStep& step);

  int32_t begin();
  void end(int32_t sequence);
  Status decode(std::span<const int32_t> sequences, int32_t bucket, Mode mode, bool compare = true) {
    return step(decode_step(sequences, bucket, mode, compare));
  }
  Planner& planner() { return rig_->planner(); }
  Rig& rig() { return *rig_; }
  const StepPlan& plan() const { return plan_; }
  const std::vector<float>& out() const { return out_; }  // [layers, max rows, Hv, Dv]
  Digest digest() const { return digest_; }

 private:
  class Program;
  RecurrentRig(const RecurrentOptions& options, std::unique_ptr<Rig> rig);
  int64_t width() const;  // of an input row: qkv, b, a and a gap
  RecurrentTensors tensors(int32_t layer, int64_t rows) const;
  Status allocate(const RecurrentBackend& backend);
  Status fill(const RigStep& step);
  Status collect(const RigStep& step);
  Status compare_row(std::span<const double> want, int32_t layer, int64_t row) const;

  RecurrentOptions options_;
  std::unique_ptr<Rig> rig_;
  std::unique_ptr<RecurrentBackend> backend_;
  std::unique_ptr<Program> program_;
  TensorView input_;                             // [layers, T, width]
  TensorView output_;                            // [layers, T, Hv, Dv]
  TensorView mixed_;                             // [T, C]
  TensorView conv_, a_log_, dt_bias_;            // [layers, ...]
  TensorView workspace_;                         // u8
  std::vector<DeltaWeights> weights_;            // [layers]
  std::vector<std::vector<DeltaState>> states_;  // [sequences][layers]
  StepPlan plan_;
  std::vector<float> in_;
  std::vector<float> out_;
  Digest digest_ = 0;
};

}  // namespace lockstep::conformance
