// Qwen3.5, dense and of experts: Qwen3-Next's layers with delta projections that are not grouped, as the text
// half of a model that also sees. The vision tower and the draft head are left out. On text the three
// position grids of M-RoPE are one, so it is plain partial rotation.
#include "model/families/config_reader.h"
#include "model/families/families.h"

namespace lockstep {
namespace {

Result<DecoderSpec> read_text(const Json& config, const Json& text, std::string_view family) {
  DecoderSpec spec = LS_TRY(read_common(text, family));
  // Of both halves, so it stands beside text_config.
  spec.tied_head = LS_TRY(config.boolean_or("tie_word_embeddings", spec.tied_head));
  spec.norm = NormFlavour::kZeroCentred;
  spec.naming.skipped = {"mtp.", "model.visual.", "visual."};
  spec.softmax = LS_TRY(read_softmax(text));
  spec.softmax.qk_norm = QkNorm::kPerHead;
  LS_TRY(expect_true(text, "attn_output_gate", "true: this family's attention is gated"));
  spec.softmax.output_gate = OutputGate::kInQueries;
  LS_TRY(read_mixers(text, spec));
  spec.delta = LS_TRY(read_delta(text));
  return spec;
}

}  // namespace

Result<DecoderSpec> read_qwen3_5(const Json& config) {
  const Json text = text_config(config);
  DecoderSpec spec = LS_TRY(read_text(config, text, "qwen3_5"));
  spec.dense_width = LS_TRY(config_int(text, "intermediate_size", 1, kMaxWidth));
  return spec;
}

Result<DecoderSpec> read_qwen3_5_moe(const Json& config) {
  const Json text = text_config(config);
  DecoderSpec spec = LS_TRY(read_text(config, text, "qwen3_5_moe"));
  LS_TRY(read_moe(text, spec));
  spec.moe.normalise = true;  // whatever norm_topk_prob says
  spec.moe.shared_width = LS_TRY(config_int(text, "shared_expert_intermediate_size", 1, kMaxWidth));
  return spec;
}

}  // namespace lockstep
