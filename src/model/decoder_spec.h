// DecoderSpec: a decoder-only model as data. A family turns a checkpoint's config into one; nothing after
// that asks which family it was. It describes a whole model, or what one rank holds of it (model/shard.h):
// then heads and mlp widths are the rank's own, while width, vocab, positions, the router's experts and the
// choices of a row stay those of the model.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/units.h"
#include "kernels/moe/moe.h"
#include "kernels/rms_norm/rms_norm.h"

namespace lockstep {

// Entries [first, first + count) of something that all ranks number alike: what this rank holds of it.
struct HeldRange {
  int32_t first = 0;
  int32_t count = 0;
};

// Rotary position embedding of the first `dims` elements of each head.
struct RopeSpec {
  enum class Scaling : uint8_t { kNone, kLinear, kLlama3, kYarn };
  int32_t dims = 0;  // even; 0: no rotation
  double theta = 10000.0;
  Scaling scaling = Scaling::kNone;
  double factor = 1.0;
  double original_max_positions = 0;
  double low_freq_factor = 1.0;   // llama3
  double high_freq_factor = 4.0;  // llama3
  double beta_fast = 32.0;        // yarn
  double beta_slow = 1.0;         // yarn
  double attention_factor = 0.0;  // yarn; 0: 0.1 ln(factor) + 1
};

// InfLLM-V2: a query of a long sequence attends to chosen blocks of keys only. Keys are compressed twice: K1
// is the mean of `kernel` keys every `stride` keys, K2 that of four times as many every four times as many.
struct SparseSpec {
  int32_t block = 64;          // keys of a block
  int32_t kernel = 32;         // keys of a K1
  int32_t stride = 16;         // keys from one K1 to the next
  int32_t init_blocks = 1;     // always chosen: the first ones
  int32_t top_blocks = 64;     // and beyond the window
  int32_t window_blocks = 32;  // always chosen: that many before the query's own
  int32_t dense_len = 8192;    // prompts and sequences shorter than this attend to all keys; 0: none does

  // Blocks that a query may choose, forced ones included.
  int32_t most_blocks() const { return top_blocks + window_blocks; }
};

// A gate on what a mixer gives, before its output projection: out *= sigmoid(gate).
enum class OutputGate : uint8_t {
  kNone,
  kInQueries,      // q_proj gives [query | gate] per head
  kOwnProjection,  // of the normed hidden state, by o_gate or z_proj
};

// An RMSNorm of queries and keys, before the rotation.
enum class QkNorm : uint8_t {
  kNone,
  kPerHead,   // over each head's D elements, with one weight [D] for all heads
  kAllHeads,  // over all heads of a row together, with a weight [H * D]
};

// Softmax attention with grouped query heads.
struct SoftmaxMixerSpec {
  int32_t heads = 0;     // H
  int32_t kv_heads = 0;  // K, divides H
  int32_t head_dim = 0;  // D
  QkNorm qk_norm = QkNorm::kNone;
  OutputGate output_gate = OutputGate::kNone;
  RopeSpec rope;
  std::optional<SparseSpec> sparse;  // nothing: every query attends to all keys
  // Of an all-heads norm: heads of the whole model over which its means go, and the key heads among this
  // rank's that no other rank counts; where ranks share a key head, the first of them counts it.
  int32_t normed_heads = 0;
  int32_t normed_kv_heads = 0;
  int32_t counted_kv_heads = 0;

  int32_t query_width() const { return heads * head_dim; }
  int32_t key_width() const { return kv_heads * head_dim; }
  // Columns of q_proj from one head to the next.
  int32_t query_step() const { return head_dim * (output_gate == OutputGate::kInQueries ? 2 : 1); }
  // Columns of the fused projection: queries (with their gates), keys, values, then an own gate.
  int32_t projected_width() const {
    const int32_t own_gate = output_gate == OutputGate::kOwnProjection ? query_width() : 0;
    return heads * query_step() + 2 * key_width() + own_gate;
  }
};

// Gated DeltaNet: short convolution over q|k|v, gated delta rule, gated norm.
struct DeltaMixerSpec {
  int32_t key_heads = 0;
  int32_t value_heads = 0;  // a multiple of key_heads
  int32_t key_dim = 0;
  int32_t value_dim = 0;
  int32_t conv_width = 0;

  int32_t key_width() const { return key_heads * key_dim; }
  int32_t value_width() const { return value_heads * value_dim; }
  int32_t conv_channels() const { return 2 * key_width() + value_width(); }
};

// Linear attention whose state decays by one factor per head.
struct LightningMixerSpec {
  int32_t heads = 0;     // H
  int32_t kv_heads = 0;  // K, divides H
  int32_t head_dim = 0;  // D
  // Heads of the whole model, and the first of this rank among them: a head's decay follows from its number.
  int32_t model_heads = 0;
  int32_t first_head = 0;
  RopeSpec rope;
  bool qk_norm = false;      // a plain RMSNorm over each head's D elements of q and k, before the rotation
  bool output_norm = false;  // a plain RMSNorm over all heads of the model
  OutputGate output_gate = OutputGate::kNone;
  float scale = 1.0f;  // of the queries

  int32_t query_width() const { return heads * head_dim; }
  int32_t key_width() const { return kv_heads * head_dim; }
  // Columns of the fused projection: queries, keys, values, then an own gate.
  int32_t projected_width() const {
    const int32_t own_gate = output_gate == OutputGate::kOwnProjection ? query_width() : 0;
    return query_width() + 2 * key_width() + own_gate;
  }
};

struct MoeSpec {
  int32_t experts = 0;       // X, of the router
  HeldRange held;            // experts of this rank; all unless experts are parallel
  int32_t choices = 0;       // experts per row
  int32_t expert_width = 0;  // F of one expert
  int32_t shared_width = 0;  // F of the shared expert; 0: none
  bool normalise = true;     // the chosen weights sum to one
  MoeScoring scoring = MoeScoring::kSoftmax;
  bool correction_bias = false;  // added to the scores for choosing alone; with sigmoid scores
};

enum class Mixer : uint8_t { kSoftmax, kDelta, kLightning };
enum class Mlp : uint8_t { kDense, kMoe };

struct LayerSpec {
  Mixer mixer = Mixer::kSoftmax;
  Mlp mlp = Mlp::kDense;
};

// How a checkpoint spells its weights. A family gives what it knows; the rest is taken from the checkpoint's
// header (adopt_names in model/weights.h): a re-export may have any prefix and any spelling of experts.
struct WeightNaming {
  std::string prefix = "model.";  // of embed_tokens, layers and norm
  std::string head = "lm_head";
  bool grouped_delta_projections = false;  // in_proj_qkvz and in_proj_ba, rows grouped by key head
  std::string moe = "mlp.";                // of the router and the experts within their layer
  // Of one expert, unless all are packed in experts.gate_up_proj and experts.down_proj.
  std::string gate = "gate_proj";
  std::string up = "up_proj";
  std::string down = "down_proj";
  // Beginnings of names that the family leaves unread on purpose (docs/decisions/0007).
  std::vector<std::string> skipped;
};

// Constant factors of a family's parametrisation (muP).
struct Multipliers {
  float embedding = 1.0f;  // of the embedded tokens
  float branch = 1.0f;     // of what each block adds to the residual stream
  float logits = 1.0f;     // of the final norm's output
};

struct DecoderSpec {
  std::string family;    // "qwen3_next"
  int32_t width = 0;     // E
  int32_t vocab = 0;     // columns of the logits; may exceed what the tokenizer knows
  HeldRange vocab_rows;  // rows of embedding and head on this rank; those past `vocab` are zeros
  int32_t max_positions = 0;
  float norm_epsilon = 1e-6f;
  NormFlavour norm = NormFlavour::kPlain;
  bool tied_head = false;        // lm_head is the embedding
  int32_t dense_width = 0;       // F of dense layers
  SoftmaxMixerSpec softmax;      // of the softmax layers
  DeltaMixerSpec delta;          // of the delta layers
  LightningMixerSpec lightning;  // of the lightning layers
  MoeSpec moe;                   // of the MoE layers
  std::vector<LayerSpec> layers;
  Multipliers multipliers;
  WeightNaming naming;

  int32_t count(Mixer mixer) const;
  int32_t count(Mlp mlp) const;
  // Layers that keep a state per sequence. They are all of one kind: their states lie in one pool.
  int32_t recurrent_layers() const { return count(Mixer::kDelta) + count(Mixer::kLightning); }
  // The rotation of the layers that have one: all of them the same.
  const RopeSpec& rope() const { return softmax.rope.dims > 0 ? softmax.rope : lightning.rope; }
  // Weights of the model, or of the shard, embedding included once when tied.
  int64_t parameters() const;
  // Weights that one row passes through: all but the experts it does not choose and the embedding lookup.
  int64_t active_parameters() const;
};

// The cache groups of a decoder: pages of the softmax layers, states of the recurrent layers, compressed keys
// of the sparse softmax layers.
// The cache groups of a decoder: pages of the softmax layers, states of the recurrent layers.
inline constexpr GroupId kKvGroup{0};
inline constexpr GroupId kStateGroup{1};
inline constexpr GroupId kCompressedGroup{2};

}  // namespace lockstep
