// The engine's own lightning attention: f32 states that decay. Where context-parallel ranks share a step's
// rows, the chunks of a sequence run one after the other, as those of Gated DeltaNet do.
#pragma once

#include "attention/attention_backend.h"
#include "attention/context/context_group.h"

namespace lockstep {

class LightningBackend final : public RecurrentBackend {
 public:
  // Borrows the storage and the group.
  explicit LightningBackend(const CacheStorage& storage, const ContextGroup& context = {})
      : storage_(storage), context_(context) {}

  const ConsumerSpec& spec() const override;
  int64_t workspace_bytes(const RecurrentSize& size) const override;
  Status prepare(const Binder& binder, PreparedStep& step) const override;
  Status run(const PreparedStep& step, const RecurrentTensors& tensors, int32_t layer,
             const Launcher& on) const override;

 private:
  const CacheStorage& storage_;
  ContextGroup context_;
};

}  // namespace lockstep
