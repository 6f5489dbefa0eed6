#include "attention/paged/paged_backend.h"

#include "kernels/kv_cache/kv_cache.h"
#include "kernels/paged_attention/paged_attention.h"

namespace lockstep {
namespace {

constexpr const OpSpec* kOps[] = {&kStoreKvSpec, &kPagedAttentionSpec};
constexpr FieldUse kUses[] = {
    {.field = FieldId::slot_mapping, .argument = "store_kv.slot_mapping"},
    {.field = FieldId::table_rows, .argument = "paged_attention.table_rows"},
    {.field = FieldId::query_start_loc, .argument = "paged_attention.query_start_loc"},
    {.field = FieldId::seq_lens, .argument = "paged_attention.seq_lens"},
    {.field = FieldId::num_rows, .argument = "*.num_rows"},
    {.field = FieldId::num_seqs, .argument = "paged_attention.num_seqs"},
};
constexpr ConsumerSpec kConsumer{.name = "paged_attention", .ops = kOps, .fields = kUses};

// The plan's fields on the device, for all layers of a group.
struct PagedLaunch {
  FieldView slot_mapping;     // [T]
  FieldView table_rows;       // [S]
  FieldView query_start_loc;  // [S + 1]
  FieldView seq_lens;         // [S]
  const LiveRows* num_rows = nullptr;
  const LiveSeqs* num_seqs = nullptr;
};

}  // namespace

const ConsumerSpec& PagedBackend::spec() const { return kConsumer; }

int64_t PagedBackend::workspace_bytes(int threads, int32_t heads, int32_t kv_heads, int32_t head_dim) const {
  return paged_attention_workspace_bytes(threads, heads, kv_heads, head_dim);
}

Status PagedBackend::prepare(const Binder& binder, GroupId group, PreparedStep& step) const {
  PagedLaunch& launch = step.add<PagedLaunch>(kConsumer, group);
  return binder.bind(kConsumer, {{FieldId::slot_mapping, launch.slot_mapping, group},
                                 {FieldId::table_rows, launch.table_rows, group},
                                 {FieldId::query_start_loc, launch.query_start_loc},
                                 {FieldId::seq_lens, launch.seq_lens},
                                 {field::num_rows, launch.num_rows},
                                 {field::num_seqs, launch.num_seqs}});
}

Status PagedBackend::run(const PreparedStep& step, GroupId group, const AttentionTensors& tensors,
                         int32_t layer, const Launcher& on) const {
  const PagedLaunch& launch = *LS_TRY(step.get<PagedLaunch>(kConsumer, group));
  const KvView& cache = storage_.kv(layer);
  LS_TRY(store_kv(on,
                  {.k = tensors.k,
                   .v = tensors.v,
                   .slot_mapping = launch.slot_mapping,
                   .cache = cache,
                   .num_rows = launch.num_rows},
                  "store_kv"));
  return paged_attention(on,
                         {.q = tensors.q,
                          .cache = cache,
                          .page_table = storage_.page_table(),
                          .table_rows = launch.table_rows,
                          .query_start_loc = launch.query_start_loc,
                          .seq_lens = launch.seq_lens,
                          .out = tensors.out,
                          .workspace = tensors.workspace,
                          .num_rows = launch.num_rows,
                          .num_seqs = launch.num_seqs,
                          .scale = tensors.scale},
                         "attention");
}

}  // namespace lockstep
