#include "model/recurrent_backends.h"

#include "attention/delta/delta_backend.h"
#include "attention/lightning/lightning_backend.h"

namespace lockstep {

std::unique_ptr<RecurrentBackend> recurrent_backend(const DecoderSpec& spec, const CacheStorage& storage,
                                                    const ContextGroup& context) {
  if (spec.count(Mixer::kLightning) > 0) return std::make_unique<LightningBackend>(storage, context);
  return std::make_unique<DeltaBackend>(storage, context);
}

}  // namespace lockstep
