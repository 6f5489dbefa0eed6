// The engine's own paged attention: any layout, any page size, prefill, decode and mixed batches in one
// launch.
#pragma once

#include "attention/attention_backend.h"

namespace lockstep {

class PagedBackend final : public AttentionBackend {
 public:
  // Borrows the storage.
  explicit PagedBackend(const CacheStorage& storage) : storage_(storage) {}

  std::string_view name() const override { return "paged"; }
  int64_t workspace_bytes(int threads, int32_t heads, int32_t kv_heads, int32_t head_dim) const override;
  Result<AttentionLaunch> prepare(const Binder& binder, GroupId group) const override;
  Status run(const AttentionLaunch& launch, const AttentionTensors& tensors, int32_t layer,
             const Launcher& on) const override;

 private:
  const CacheStorage& storage_;
};

}  // namespace lockstep
