// Which recurrent backend a model's layers need.
#pragma once

#include <memory>

#include "attention/attention_backend.h"
#include "attention/context/context_group.h"
#include "model/decoder_spec.h"

namespace lockstep {

// Borrows storage and group, as the backends do.
std::unique_ptr<RecurrentBackend> recurrent_backend(const DecoderSpec& spec, const CacheStorage& storage,
                                                    const ContextGroup& context = {});

}  // namespace lockstep
