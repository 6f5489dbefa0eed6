// Qwen3-Next: Gated DeltaNet layers with a gated softmax layer at every interval, routed experts beside a
// shared one, zero-centred norms.
#include "model/families/config_reader.h"
#include "model/families/families.h"

namespace lockstep {
namespace {

// layer_types, when there, wins over full_attention_interval.
Status read_mixers(const Json& config, DecoderSpec& spec) {
  const std::optional<Json> types = config.find("layer_types");
  if (!types) {
    const int64_t interval = LS_TRY(config.integer_or("full_attention_interval", 4, 1, kMaxLayers));
    for (size_t i = 0; i < spec.layers.size(); ++i) {
      const bool full = (static_cast<int64_t>(i) + 1) % interval == 0;
      spec.layers[i].mixer = full ? Mixer::kSoftmax : Mixer::kDelta;
    }
    return {};
  }
  if (types->size() != spec.layers.size()) {
    return error(Code::kInvalidArgument, types->where(), " has ", types->size(),
                 " entries; expected num_hidden_layers = ", spec.layers.size());
  }
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    const std::string type = LS_TRY((*types)[i].as_string());
    if (type != "full_attention" && type != "linear_attention") {
      return (*types)[i].refuse("\"full_attention\" or \"linear_attention\"");
    }
    spec.layers[i].mixer = type == "full_attention" ? Mixer::kSoftmax : Mixer::kDelta;
  }
  return {};
}

}  // namespace

Result<DecoderSpec> read_qwen3_next(const Json& config) {
  DecoderSpec spec = LS_TRY(read_common(config, "qwen3_next"));
  spec.norm = NormFlavour::kZeroCentred;
  spec.naming.grouped_delta_projections = true;
  spec.softmax = LS_TRY(read_softmax(config));
  spec.softmax.output_gate = OutputGate::kInQueries;
  LS_TRY(read_mixers(config, spec));
  spec.delta.key_heads = LS_TRY(config_int(config, "linear_num_key_heads", 1, kMaxHeads));
  spec.delta.value_heads = LS_TRY(config_int(config, "linear_num_value_heads", 1, kMaxHeads));
  spec.delta.key_dim = LS_TRY(config_int(config, "linear_key_head_dim", 1, kMaxHeadDim));
  spec.delta.value_dim = LS_TRY(config_int(config, "linear_value_head_dim", 1, kMaxHeadDim));
  spec.delta.conv_width = LS_TRY(config_int(config, "linear_conv_kernel_dim", 2, 16));
  if (spec.delta.value_heads % spec.delta.key_heads != 0) {
    return config.find("linear_num_value_heads")
        ->refuse(concat("a multiple of linear_num_key_heads = ", spec.delta.key_heads));
  }
  LS_TRY(read_moe(config, spec));
  spec.moe.shared_width = LS_TRY(config_int(config, "shared_expert_intermediate_size", 1, kMaxWidth));
  return spec;
}

}  // namespace lockstep
