// MiniMax-M2: softmax attention with a norm over all heads of queries and of keys, partial rotation; sigmoid
// routing with a correction bias in every layer.
#include <algorithm>

#include "model/families/config_reader.h"
#include "model/families/families.h"

namespace lockstep {
namespace {

// 1 stands for softmax attention, 0 for the lightning attention of older MiniMax models.
Status check_attention(const Json& config) {
  const std::optional<Json> types = config.find("attn_type_list");
  if (!types) return {};
  const std::vector<int64_t> kinds = LS_TRY(types->as_integers());
  if (std::all_of(kinds.begin(), kinds.end(), [](int64_t kind) { return kind == 1; })) return {};
  return error(Code::kUnimplemented, types->where(),
               " has a layer that is not 1; expected softmax attention, 1, in every layer");
}

Result<MoeSpec> read_experts(const Json& config) {
  MoeSpec moe;
  moe.experts = LS_TRY(config_int(config, "num_local_experts", 1, kMaxExperts));
  moe.held.count = moe.experts;
  moe.choices = LS_TRY(config_int(config, "num_experts_per_tok", 1, moe.experts));
  moe.expert_width = LS_TRY(config_int(config, "intermediate_size", 1, kMaxWidth));
  LS_TRY(expect_text(config, "scoring_func", "sigmoid"));
  moe.scoring = MoeScoring::kSigmoid;
  moe.correction_bias = LS_TRY(config.boolean_or("use_routing_bias", true));
  const int64_t shared = LS_TRY(config.integer_or("shared_intermediate_size", 0));
  if (shared != 0) return config.find("shared_intermediate_size")->refuse("0: no expert is shared");
  return moe;
}

}  // namespace

Result<DecoderSpec> read_minimax_m2(const Json& config) {
  DecoderSpec spec = LS_TRY(read_common(config, "minimax_m2"));
  LS_TRY(check_attention(config));
  spec.softmax = LS_TRY(read_softmax(config));
  LS_TRY(expect_text(config, "qk_norm_type", "per_layer"));
  LS_TRY(expect_true(config, "use_qk_norm", "true: this family norms queries and keys"));
  spec.softmax.qk_norm = QkNorm::kAllHeads;
  spec.moe = LS_TRY(read_experts(config));
  for (LayerSpec& layer : spec.layers) layer.mlp = Mlp::kMoe;
  spec.naming.moe = "block_sparse_moe.";
  spec.naming.gate = "w1";
  spec.naming.up = "w3";
  spec.naming.down = "w2";
  // Draft layers, which some releases put behind the others.
  spec.naming.skipped = {"mtp.", "model.mtp."};
  const int64_t drafts = LS_TRY(config.integer_or("num_mtp_modules", 0, 0, kMaxLayers));
  for (int64_t i = 0; i < drafts; ++i)
    spec.naming.skipped.push_back(concat("model.layers.", spec.layers.size() + static_cast<size_t>(i), "."));
  return spec;
}

}  // namespace lockstep
