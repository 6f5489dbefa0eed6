// Families: from a checkpoint's config.json to a DecoderSpec. Data only; no family has forward code.
#pragma once

#include <span>
#include <string_view>

#include "base/status.h"
#include "json/json.h"
#include "model/decoder_spec.h"

namespace lockstep {

struct ModelFamily {
  std::string_view model_type;    // config.json's model_type
  std::string_view architecture;  // config.json's architectures[0]
  Result<DecoderSpec> (*read_config)(const Json& config);
};

// All families that this build knows.
std::span<const ModelFamily> model_families();

// Errors: kUnimplemented for a model_type no family has, naming those known; kInvalidArgument for a config
// that lacks a
//         key, has one of a wrong type or an absurd number, naming key, value and bounds.
Result<DecoderSpec> read_decoder_spec(const Json& config);

// The part of a config that describes the text model: `text_config` of a model that has other parts, else
// all.
Json text_config(const Json& config);

// One per family, in <family>.cc.
Result<DecoderSpec> read_llama(const Json& config);
Result<DecoderSpec> read_minimax_m2(const Json& config);
Result<DecoderSpec> read_minicpm_sala(const Json& config);
Result<DecoderSpec> read_qwen3(const Json& config);
Result<DecoderSpec> read_qwen3_moe(const Json& config);
Result<DecoderSpec> read_qwen3_next(const Json& config);
Result<DecoderSpec> read_qwen3_5(const Json& config);
Result<DecoderSpec> read_qwen3_5_moe(const Json& config);

}  // namespace lockstep
