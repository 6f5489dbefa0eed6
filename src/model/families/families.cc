#include "model/families/families.h"

namespace lockstep {
namespace {

constexpr ModelFamily kFamilies[] = {
    {"qwen3", "Qwen3ForCausalLM", read_qwen3},
    {"qwen3_moe", "Qwen3MoeForCausalLM", read_qwen3_moe},
    {"qwen3_next", "Qwen3NextForCausalLM", read_qwen3_next},
};

}  // namespace

std::span<const ModelFamily> model_families() { return kFamilies; }

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
