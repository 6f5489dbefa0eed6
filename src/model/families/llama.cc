// Llama 3: softmax attention without norms of queries and keys, SwiGLU. Older configs leave head_dim away.
#include <algorithm>

#include "model/families/config_reader.h"
#include "model/families/families.h"

namespace lockstep {

Result<DecoderSpec> read_llama(const Json& config) {
  DecoderSpec spec = LS_TRY(read_common(config, "llama"));
  const int32_t heads = LS_TRY(config_int(config, "num_attention_heads", 1, kMaxHeads));
  spec.softmax = LS_TRY(read_softmax(config, std::max(spec.width / heads, 1)));
  spec.dense_width = LS_TRY(config_int(config, "intermediate_size", 1, kMaxWidth));
  LS_TRY(expect_false(config, "mlp_bias", "false: this family's projections have no bias"));
  return spec;
}

}  // namespace lockstep
