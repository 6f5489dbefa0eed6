// MiniCPM-SALA: lightning layers with rotated queries and keys between block-sparse softmax layers without
// positions, output gates in both, dense mlps, constant factors on embedding, branches and logits.
#include <algorithm>
#include <cmath>

#include "model/families/config_reader.h"
#include "model/families/families.h"

namespace lockstep {
namespace {

constexpr std::string_view kLightning[] = {"lightning-attn", "lightning_attn", "lightning"};
constexpr std::string_view kSoftmax[] = {"minicpm4", "minicpm", "attention", "attn"};

bool is_one_of(std::span<const std::string_view> names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

Status read_layers(const Json& config, DecoderSpec& spec) {
  const Json types = LS_TRY(config.array("mixer_types"));
  if (types.size() != spec.layers.size()) {
    return error(Code::kInvalidArgument, types.where(), " has ", types.size(),
                 " entries; expected num_hidden_layers = ", spec.layers.size());
  }
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    const std::string type = LS_TRY(types[i].as_string());
    const bool lightning = is_one_of(kLightning, type);
    if (!lightning && !is_one_of(kSoftmax, type))
      return types[i].refuse("\"minicpm4\" or \"lightning-attn\"");
    spec.layers[i].mixer = lightning ? Mixer::kLightning : Mixer::kSoftmax;
  }
  return {};
}

Result<OutputGate> read_gate(const Json& config, std::string_view key) {
  return LS_TRY(config.boolean_or(key, true)) ? OutputGate::kOwnProjection : OutputGate::kNone;
}

Result<SparseSpec> read_sparse(const Json& config) {
  constexpr int64_t kMost = 1 << 20;
  SparseSpec sparse;
  sparse.block = LS_TRY(config_int(config, "block_size", 1, kMost));
  sparse.kernel = LS_TRY(config_int(config, "kernel_size", 1, kMost));
  sparse.stride = LS_TRY(config_int(config, "kernel_stride", 1, kMost));
  sparse.init_blocks = LS_TRY(config_int(config, "init_blocks", 0, kMost));
  sparse.top_blocks = LS_TRY(config_int(config, "topk", 0, kMost));
  sparse.dense_len = LS_TRY(config_int(config, "dense_len", 0, kMaxPositions));
  const int32_t window = LS_TRY(config_int(config, "window_size", 0, kMaxPositions));
  if (window % sparse.block != 0)
    return config.find("window_size")->refuse(concat("a multiple of block_size = ", sparse.block));
  sparse.window_blocks = window / sparse.block;
  LS_TRY(expect_false(config, "use_nope", "false: keys are compressed as they are attended to"));
  return sparse;
}

Result<LightningMixerSpec> read_lightning(const Json& config) {
  LightningMixerSpec mixer;
  mixer.heads = mixer.model_heads = LS_TRY(config_int(config, "lightning_nh", 1, kMaxHeads));
  mixer.kv_heads = LS_TRY(config_int(config, "lightning_nkv", 1, kMaxHeads));
  mixer.head_dim = LS_TRY(config_int(config, "lightning_head_dim", 1, kMaxHeadDim));
  if (mixer.heads % mixer.kv_heads != 0)
    return config.find("lightning_nh")->refuse(concat("a multiple of lightning_nkv = ", mixer.kv_heads));
  if (LS_TRY(config.boolean_or("lightning_use_rope", true)))
    mixer.rope = LS_TRY(read_rope(config, mixer.head_dim));
  mixer.qk_norm = LS_TRY(config.boolean_or("qk_norm", true));
  mixer.output_norm = LS_TRY(config.boolean_or("use_output_norm", true));
  mixer.output_gate = LS_TRY(read_gate(config, "use_output_gate"));
  LS_TRY(expect_text(config, "lightning_scale", "1/sqrt(d)"));
  mixer.scale = 1.0f / std::sqrt(static_cast<float>(mixer.head_dim));
  return mixer;
}

Result<Multipliers> read_multipliers(const Json& config, const DecoderSpec& spec) {
  const double depth = LS_TRY(config.number("scale_depth", 0.0, 1e6));
  const double base = LS_TRY(config.number("dim_model_base", 1.0, static_cast<double>(kMaxWidth)));
  return Multipliers{.embedding = static_cast<float>(LS_TRY(config.number("scale_emb", 0.0, 1e6))),
                     .branch = static_cast<float>(depth / std::sqrt(static_cast<double>(spec.layers.size()))),
                     .logits = static_cast<float>(base / spec.width)};
}

}  // namespace

Result<DecoderSpec> read_minicpm_sala(const Json& config) {
  DecoderSpec spec = LS_TRY(read_common(config, "minicpm_sala"));
  LS_TRY(read_layers(config, spec));
  spec.softmax = LS_TRY(read_softmax(config));
  LS_TRY(expect_false(config, "attn_use_rope", "false: this family's softmax layers know no positions"));
  spec.softmax.rope = {};
  spec.softmax.output_gate = LS_TRY(read_gate(config, "attn_use_output_gate"));
  if (const std::optional<Json> sparse = config.find("sparse_config"))
    spec.softmax.sparse = LS_TRY(read_sparse(*sparse));
  spec.lightning = LS_TRY(read_lightning(config));
  spec.dense_width = LS_TRY(config_int(config, "intermediate_size", 1, kMaxWidth));
  spec.multipliers = LS_TRY(read_multipliers(config, spec));
  return spec;
}

}  // namespace lockstep
