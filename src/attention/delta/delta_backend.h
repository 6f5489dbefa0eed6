// The engine's own Gated DeltaNet: chunks for prefill, a recurrence for single rows, f32 states. Where
// context-parallel ranks share a step's rows, the chunks of a sequence run one after the other, and each rank
// hands the states that it has reached on to all.
#pragma once

#include "attention/attention_backend.h"
#include "attention/recurrent/recurrent_launch.h"

namespace lockstep {

class DeltaBackend final : public RecurrentBackend {
 public:
  // Borrows the storage and the group.
  explicit DeltaBackend(const CacheStorage& storage, const ContextGroup& context = {})
      : storage_(storage), context_(context) {}

  const ConsumerSpec& spec() const override;
  int64_t workspace_bytes(const RecurrentSize& size) const override;
  Status prepare(const Binder& binder, PreparedStep& step) const override;
  Status run(const PreparedStep& step, const RecurrentTensors& tensors, int32_t layer,
             const Launcher& on) const override;

 private:
  struct Args;
  Args args(const RecurrentLaunch& launch, const DeltaTensors& tensors, const StateView& state) const;

  const CacheStorage& storage_;
  ContextGroup context_;
};

}  // namespace lockstep
