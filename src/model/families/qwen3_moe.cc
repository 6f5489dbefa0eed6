// Qwen3-MoE: Qwen3's attention; routed experts in all layers but those that the config names.
#include "model/families/config_reader.h"
#include "model/families/families.h"

namespace lockstep {

Result<DecoderSpec> read_qwen3_moe(const Json& config) {
  DecoderSpec spec = LS_TRY(read_common(config, "qwen3_moe"));
  spec.softmax = LS_TRY(read_softmax(config));
  spec.softmax.qk_norm = QkNorm::kPerHead;
  LS_TRY(read_moe(config, spec));
  return spec;
}

}  // namespace lockstep
