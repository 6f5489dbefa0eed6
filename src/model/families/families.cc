#include "model/families/families.h"

namespace lockstep {
namespace {

constexpr ModelFamily kFamilies[] = {
    {"llama", "LlamaForCausalLM", read_llama},
    {"minicpm_sala", "MiniCPMSALAForCausalLM", read_minicpm_sala},
    {"minimax_m2", "MiniMaxM2ForCausalLM", read_minimax_m2},
    {"qwen3", "Qwen3ForCausalLM", read_qwen3},
    {"qwen3_moe", "Qwen3MoeForCausalLM", read_qwen3_moe},
    {"qwen3_next", "Qwen3NextForCausalLM", read_qwen3_next},
    {"qwen3_5", "Qwen3_5ForConditionalGeneration", read_qwen3_5},
    {"qwen3_5_text", "Qwen3_5ForCausalLM", read_qwen3_5},
    {"qwen3_5_moe", "Qwen3_5MoeForConditionalGeneration", read_qwen3_5_moe},
    {"qwen3_5_moe_text", "Qwen3_5MoeForCausalLM", read_qwen3_5_moe},
};

}  // namespace

std::span<const ModelFamily> model_families() { return kFamilies; }

Json text_config(const Json& config) { return config.find("text_config").value_or(config); }

Result<DecoderSpec> read_decoder_spec(const Json& config) {
  const std::string type = LS_TRY(config.string("model_type"));
  std::string known;
  for (const ModelFamily& family : kFamilies) {
    if (family.model_type == type) return family.read_config(config);
    known += concat(known.empty() ? "" : ", ", family.model_type);
  }
  return error(Code::kUnimplemented, config.find("model_type")->where(), " is \"", type,
               "\"; expected one of ", known);
}

}  // namespace lockstep
