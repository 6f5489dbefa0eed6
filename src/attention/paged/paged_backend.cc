#include "attention/paged/paged_backend.h"

#include <algorithm>

#include "attention/context/store_rows.h"
#include "kernels/kv_cache/kv_cache.h"
#include "kernels/paged_attention/paged_attention.h"

namespace lockstep {
namespace {

constexpr const OpSpec* kOps[] = {&kStoreKvSpec, &kGatherKvSpec, &kStoreGatheredKvSpec, &kPagedAttentionSpec};
constexpr FieldUse kUses[] = {
    {.field = FieldId::slot_mapping, .argument = "store_kv.slot_mapping"},
    {.field = FieldId::table_rows, .argument = "paged_attention.table_rows"},
    {.field = FieldId::query_start_loc, .argument = "paged_attention.query_start_loc"},
    {.field = FieldId::seq_lens, .argument = "paged_attention.seq_lens"},
    {.field = FieldId::num_rows, .argument = "*.num_rows"},
    {.field = FieldId::num_seqs, .argument = "paged_attention.num_seqs"},
    {.field = FieldId::uniform_query_len, .feed = Feed::kValue, .argument = "paged_attention.query_len"},
    {.field = FieldId::cp_slot_mapping, .argument = "store_gathered_kv.slot_mapping"},
    {.field = FieldId::cp_ranks, .feed = Feed::kValue, .argument = {}},
    {.field = FieldId::cp_rank, .feed = Feed::kValue, .argument = {}},
};
constexpr ConsumerSpec kConsumer{.name = "paged_attention", .ops = kOps, .fields = kUses};

}  // namespace

// The plan's fields on the device, for all layers of a group.
struct PagedBackend::Launch {
  FieldView table_rows;       // [S]
  FieldView query_start_loc;  // [S + 1]
  FieldView seq_lens;         // [S]
  const LiveSeqs* num_seqs = nullptr;
  int64_t query_len = 0;  // of every sequence that has rows; 0: they differ
  StoreLaunch store;
};

const ConsumerSpec& PagedBackend::spec() const { return kConsumer; }

int64_t PagedBackend::workspace_bytes(int threads, int32_t heads, int32_t kv_heads, int32_t head_dim) const {
  // Attention begins when what was on its way is stored.
  return std::max(paged_attention_workspace_bytes(threads, heads, kv_heads, head_dim),
                  store_workspace_bytes(context_, kv_heads, head_dim));
}

Status PagedBackend::prepare(const Binder& binder, GroupId group, PreparedStep& step) const {
  Launch& launch = step.add<Launch>(kConsumer, group);
  LS_TRY(bind_store(binder, kConsumer, group, context_, launch.store));
  launch.query_len = LS_TRY(binder.value(kConsumer, field::uniform_query_len)).get();
  return binder.bind(kConsumer, {{FieldId::table_rows, launch.table_rows, group},
                                 {FieldId::query_start_loc, launch.query_start_loc},
                                 {FieldId::seq_lens, launch.seq_lens},
                                 {field::num_seqs, launch.num_seqs}});
}

Status PagedBackend::run(const PreparedStep& step, GroupId group, const AttentionTensors& tensors,
                         int32_t layer, const Launcher& on) const {
  const Launch& launch = *LS_TRY(step.get<Launch>(kConsumer, group));
  const KvView& cache = storage_.kv(layer);
  LS_TRY(store_rows(launch.store, context_, tensors, cache, on));
  return paged_attention(on,
                         {.q = tensors.q,
                          .cache = cache,
                          .page_table = storage_.page_table(),
                          .table_rows = launch.table_rows,
                          .query_start_loc = launch.query_start_loc,
                          .seq_lens = launch.seq_lens,
                          .out = tensors.out,
                          .workspace = tensors.workspace,
                          .num_rows = launch.store.num_rows,
                          .num_seqs = launch.num_seqs,
                          .scale = tensors.scale,
                          .input = tensors.input,
                          .query_len = static_cast<int32_t>(launch.query_len)},
                         "attention");
}

}  // namespace lockstep
