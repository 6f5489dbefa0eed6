// Block-sparse attention (InfLLM-V2): keys are compressed into a cache group of their own, a kernel in the
// graph chooses each row's blocks from them, another attends to those. Which rows choose follows from the
// request's prompt and the row's position alone (docs/decisions/0019).
#pragma once

#include "attention/attention_backend.h"
#include "attention/context/context_group.h"

namespace lockstep {

struct SparseOptions {
  int32_t init_blocks = 1;
  int32_t window_blocks = 32;
  int32_t most_blocks = 96;  // of a list
  int32_t dense_len = 8192;  // rows of prompts and sequences below it see all keys; 0: every row chooses
  int32_t max_tokens = 0;    // of a sequence, in whole pages
  GroupId compressed;        // the group of the compressed keys
};

class SparseBackend final : public AttentionBackend {
 public:
  // Borrows the storage, which has compressed keys, and the group.
  SparseBackend(const CacheStorage& storage, const SparseOptions& options, const ContextGroup& context = {})
      : storage_(storage), options_(options), context_(context) {}

  const ConsumerSpec& spec() const override;
  int64_t workspace_bytes(int threads, int32_t heads, int32_t kv_heads, int32_t head_dim) const override;
  Status prepare(const Binder& binder, GroupId group, PreparedStep& step) const override;
  // Stores and compresses, chooses, attends: the lists of the layer that ran last are in the derived fields
  // of contract/selected_blocks.h.
  Status run(const PreparedStep& step, GroupId group, const AttentionTensors& tensors, int32_t layer,
             const Launcher& on) const override;

 private:
  struct Launch;
  Status compress(const Launch& launch, int32_t layer, const Launcher& on) const;
  Status select(const Launch& launch, const AttentionTensors& tensors, int32_t layer,
                const Launcher& on) const;
  Status attend(const Launch& launch, const AttentionTensors& tensors, int32_t layer,
                const Launcher& on) const;

  const CacheStorage& storage_;
  SparseOptions options_;
  ContextGroup context_;
};

}  // namespace lockstep
