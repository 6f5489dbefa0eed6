// Qwen3, dense: softmax attention with normed queries and keys, SwiGLU.
#include "model/families/config_reader.h"
#include "model/families/families.h"

namespace lockstep {

Result<DecoderSpec> read_qwen3(const Json& config) {
  DecoderSpec spec = LS_TRY(read_common(config, "qwen3"));
  spec.softmax = LS_TRY(read_softmax(config));
  spec.softmax.qk_norm = QkNorm::kPerHead;
  spec.dense_width = LS_TRY(config_int(config, "intermediate_size", 1, kMaxWidth));
  return spec;
}

}  // namespace lockstep
