// The engine's own paged attention: any layout, any page size, prefill, decode and mixed batches in one
// launch.
#pragma once

#include "attention/attention_backend.h"

namespace lockstep {

class PagedBackend final : public AttentionBackend {
 public:
  // Borrows the storage.
  explicit PagedBackend(const CacheStorage& storage) : storage_(storage) {}

  const ConsumerSpec& spec() const override;
  int64_t workspace_bytes(int threads, int32_t heads, int32_t kv_heads, int32_t head_dim) const override;
  Status prepare(const Binder& binder, GroupId group, PreparedStep& step) const override;
  Status run(const PreparedStep& step, GroupId group, const AttentionTensors& tensors, int32_t layer,
             const Launcher& on) const override;

 private:
  const CacheStorage& storage_;
};

}  // namespace lockstep
