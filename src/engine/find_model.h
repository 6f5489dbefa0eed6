// Where a model is, given what the user typed.
#pragma once

#include <string>
#include <string_view>

#include "base/status.h"

namespace lockstep {

// The folder of a model: `given` itself when it is one; an `org/name` in the Hugging Face cache
// (HF_HUB_CACHE, else HF_HOME/hub, else ~/.cache/huggingface/hub); the storyteller when `given` is empty,
// from LOCKSTEP_MODELS, beside the binary, or in the source tree. Errors: kNotFound, saying where it looked.
Result<std::string> find_model(std::string_view given);

}  // namespace lockstep
