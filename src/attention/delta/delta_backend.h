// The engine's own Gated DeltaNet: chunks for prefill, a recurrence for single rows, f32 states.
#pragma once

#include "attention/attention_backend.h"

namespace lockstep {

class DeltaBackend final : public RecurrentBackend {
 public:
  // Borrows the storage.
  explicit DeltaBackend(const CacheStorage& storage) : storage_(storage) {}

  const ConsumerSpec& spec() const override;
  int64_t workspace_bytes(int threads, int32_t key_dim, int32_t value_dim) const override;
  Status prepare(const Binder& binder, PreparedStep& step) const override;
  Status run(const PreparedStep& step, const RecurrentTensors& tensors, int32_t layer,
             const Launcher& on) const override;

 private:
  const CacheStorage& storage_;
};

}  // namespace lockstep
