// The engine's own paged attention: any layout, any page size, prefill, decode and mixed batches in one
// launch. Where context-parallel ranks share a step's rows, each stores the keys and values of all and
// attends for its own.
#pragma once

#include "attention/attention_backend.h"
#include "attention/context/context_group.h"

namespace lockstep {

class PagedBackend final : public AttentionBackend {
 public:
  // Borrows the storage and the group.
  explicit PagedBackend(const CacheStorage& storage, const ContextGroup& context = {})
      : storage_(storage), context_(context) {}

  const ConsumerSpec& spec() const override;
  int64_t workspace_bytes(int threads, int32_t heads, int32_t kv_heads, int32_t head_dim) const override;
  Status prepare(const Binder& binder, GroupId group, PreparedStep& step) const override;
  Status run(const PreparedStep& step, GroupId group, const AttentionTensors& tensors, int32_t layer,
             const Launcher& on) const override;

 private:
  struct Launch;

  const CacheStorage& storage_;
  ContextGroup context_;
};

}  // namespace lockstep
