#include "attention/paged/paged_backend.h"

#include <algorithm>

#include "base/math.h"
#include "kernels/common/checks.h"
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
    {.field = FieldId::cp_slot_mapping, .argument = "store_gathered_kv.slot_mapping"},
    {.field = FieldId::cp_ranks, .feed = Feed::kValue, .argument = {}},
    {.field = FieldId::cp_rank, .feed = Feed::kValue, .argument = {}},
};
constexpr ConsumerSpec kConsumer{.name = "paged_attention", .ops = kOps, .fields = kUses};

constexpr int64_t kAlignment = 64;  // of what is carved out of a workspace

// Of the keys and values of so many rows.
int64_t kv_bytes(int64_t rows, int64_t kv_heads, int64_t head_dim) {
  return round_up(rows * 2 * kv_heads * head_dim * int64_t{sizeof(float)}, kAlignment);
}

}  // namespace

// The plan's fields on the device, for all layers of a group.
struct PagedBackend::Launch {
  FieldView slot_mapping;     // [T]
  FieldView table_rows;       // [S]
  FieldView query_start_loc;  // [S + 1]
  FieldView seq_lens;         // [S]
  const LiveRows* num_rows = nullptr;
  const LiveSeqs* num_seqs = nullptr;
  FieldView cp_slot_mapping;  // [N]: of the rows of all ranks, where they share the step
  ContextCut cut;
};

const ConsumerSpec& PagedBackend::spec() const { return kConsumer; }

int64_t PagedBackend::workspace_bytes(int threads, int32_t heads, int32_t kv_heads, int32_t head_dim) const {
  const int64_t attention = paged_attention_workspace_bytes(threads, heads, kv_heads, head_dim);
  if (context_.ranks == 1) return attention;
  // On their way: this rank's rows, and those of all. Attention begins when they are stored.
  const int64_t own = kv_bytes(context_.max_rows, kv_heads, head_dim);
  return std::max(attention, own + kv_bytes(context_.ranks * context_.max_rows, kv_heads, head_dim));
}

Status PagedBackend::prepare(const Binder& binder, GroupId group, PreparedStep& step) const {
  Launch& launch = step.add<Launch>(kConsumer, group);
  if (context_.ranks > 1) launch.cut = LS_TRY(bind_cut(binder, kConsumer, context_));
  if (launch.cut.shared())
    LS_TRY(binder.bind(kConsumer, {{FieldId::cp_slot_mapping, launch.cp_slot_mapping, group}}));
  return binder.bind(kConsumer, {{FieldId::slot_mapping, launch.slot_mapping, group},
                                 {FieldId::table_rows, launch.table_rows, group},
                                 {FieldId::query_start_loc, launch.query_start_loc},
                                 {FieldId::seq_lens, launch.seq_lens},
                                 {field::num_rows, launch.num_rows},
                                 {field::num_seqs, launch.num_seqs}});
}

// Every rank stores what all ranks have computed, so that its cache is whole for whatever comes next.
Status PagedBackend::store_of_all_ranks(const Launch& launch, const AttentionTensors& tensors,
                                        const KvView& cache, const Launcher& on) const {
  const int64_t rows = tensors.k.dim(0), heads = tensors.k.dim(1), dim = tensors.k.dim(2);
  const int64_t own = kv_bytes(rows, heads, dim), all = rows * launch.cut.ranks;
  LS_TRY(check_workspace("gather_kv", tensors.workspace, own + kv_bytes(all, heads, dim)));
  auto* space = static_cast<std::byte*>(tensors.workspace.data);
  const TensorView gathered = dense_view(space + own, DType::kF32, {all, 2, heads, dim});
  LS_TRY(gather_kv(on,
                   {.k = tensors.k,
                    .v = tensors.v,
                    .out = gathered,
                    .scratch = dense_view(space, DType::kF32, {rows, 2, heads, dim}),
                    .num_rows = launch.num_rows,
                    .group = context_.group},
                   "gather_kv"));
  const TensorView flat = dense_view(gathered.data, DType::kF32, {all, 2 * heads * dim});
  return store_gathered_kv(on,
                           {.k = flat.heads(0, heads, dim, dim),
                            .v = flat.heads(heads * dim, heads, dim, dim),
                            .slot_mapping = launch.cp_slot_mapping,
                            .cache = cache},
                           "store_kv");
}

Status PagedBackend::run(const PreparedStep& step, GroupId group, const AttentionTensors& tensors,
                         int32_t layer, const Launcher& on) const {
  const Launch& launch = *LS_TRY(step.get<Launch>(kConsumer, group));
  const KvView& cache = storage_.kv(layer);
  LS_TRY(launch.cut.shared() ? store_of_all_ranks(launch, tensors, cache, on)
                             : store_kv(on,
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
