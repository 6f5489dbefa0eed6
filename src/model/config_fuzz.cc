// Any bytes as a config.json: refused with a sentence, or read into a spec whose numbers can be computed
// with, and into what it says about quantised matrices.
#include <cstddef>
#include <cstdint>

#include "base/check.h"
#include "json/json.h"
#include "model/families/families.h"
#include "model/rope.h"
#include "model/weights.h"

namespace lockstep {
namespace {

// Listing the weights of thousands of layers finds nothing that a few layers do not.
constexpr size_t kListedLayers = 8;

void check_spec(const DecoderSpec& spec) {
  LS_CHECK(spec.parameters() > 0 && spec.active_parameters() > 0, spec.parameters());
  LS_CHECK(spec.softmax.heads % spec.softmax.kv_heads == 0, spec.softmax.heads);
  if (spec.softmax.rope.dims <= 4096) rope_frequencies(spec.softmax.rope);
  if (spec.layers.size() > kListedLayers || spec.moe.experts > 64) return;
  DecoderWeights weights;
  LS_CHECK(weight_footprint(list_weights(spec, DType::kBF16, weights)).ok(), spec.family);
}

}  // namespace
}  // namespace lockstep

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace lockstep;
  const Result<Json> json =
      parse_json({reinterpret_cast<const char*>(data), size}, {.max_bytes = 1 << 20}, "config.json");
  if (!json.ok()) {
    LS_CHECK(!json.status().message().empty());
    return 0;
  }
  const Result<Quantisation> quantisation = read_quantisation(*json);
  LS_CHECK(quantisation.ok() || quantisation.status().message().starts_with("config.json"),
           quantisation.status().message());
  const Result<DecoderSpec> spec = read_decoder_spec(*json);
  if (spec.ok()) {
    check_spec(*spec);
  } else {
    LS_CHECK(spec.status().message().starts_with("config.json"), spec.status().message());
  }
  return 0;
}
