// Storing the keys and values of a step: of this rank's rows, or, where context-parallel ranks share them, of
// the rows of all, so that every rank's cache is whole for whatever comes next.
#pragma once

#include "attention/attention_backend.h"
#include "attention/context/context_group.h"

namespace lockstep {

// What a backend's launch keeps of the plan for it.
struct StoreLaunch {
  FieldView slot_mapping;     // [T]
  FieldView cp_slot_mapping;  // [N]: of the rows of all ranks, where they share the step
  const LiveRows* num_rows = nullptr;
  ContextCut cut;
};

// Binds it. `consumer` declares slot_mapping and num_rows of store_kv, cp_slot_mapping of store_gathered_kv,
// cp_ranks and cp_rank as values, and the ops store_kv, gather_kv and store_gathered_kv.
Status bind_store(const Binder& binder, const ConsumerSpec& consumer, GroupId group,
                  const ContextGroup& context, StoreLaunch& launch);

// Bytes of workspace that rows on their way take; none where the rank is alone.
int64_t store_workspace_bytes(const ContextGroup& context, int32_t kv_heads, int32_t head_dim);

Status store_rows(const StoreLaunch& launch, const ContextGroup& context, const AttentionTensors& tensors,
                  const KvView& cache, const Launcher& on);

}  // namespace lockstep
