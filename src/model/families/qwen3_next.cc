// Qwen3-Next: Gated DeltaNet layers with a gated softmax layer at every interval, routed experts beside a
// shared one, zero-centred norms.
#include "model/families/config_reader.h"
#include "model/families/families.h"

namespace lockstep {

Result<DecoderSpec> read_qwen3_next(const Json& config) {
  DecoderSpec spec = LS_TRY(read_common(config, "qwen3_next"));
  spec.norm = NormFlavour::kZeroCentred;
  spec.naming.grouped_delta_projections = true;
  spec.naming.skipped = {"mtp."};  // the draft head
  spec.softmax = LS_TRY(read_softmax(config));
  spec.softmax.qk_norm = QkNorm::kPerHead;
  spec.softmax.output_gate = OutputGate::kInQueries;
  LS_TRY(read_mixers(config, spec));
  spec.delta = LS_TRY(read_delta(config));
  LS_TRY(read_moe(config, spec));
  spec.moe.shared_width = LS_TRY(config_int(config, "shared_expert_intermediate_size", 1, kMaxWidth));
  return spec;
}

}  // namespace lockstep
