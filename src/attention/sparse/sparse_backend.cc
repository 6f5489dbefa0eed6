#include "attention/sparse/sparse_backend.h"

#include <algorithm>

#include "attention/context/store_rows.h"
#include "contract/selected_blocks.h"
#include "kernels/block_selection/block_selection.h"
#include "kernels/compressed_keys/compressed_keys.h"
#include "kernels/kv_cache/kv_cache.h"
#include "kernels/paged_attention/paged_attention.h"
#include "kernels/sparse_attention/sparse_attention.h"

namespace lockstep {
namespace {

constexpr const OpSpec* kOps[] = {&kStoreKvSpec,      &kGatherKvSpec,     &kStoreGatheredKvSpec,
                                  &kCompressKeysSpec, &kSelectBlocksSpec, &kSparseAttentionSpec};
constexpr FieldUse kUses[] = {
    {.field = FieldId::slot_mapping, .argument = "store_kv.slot_mapping"},
    {.field = FieldId::num_rows, .argument = "*.num_rows"},
    {.field = FieldId::table_rows, .argument = "*.table_rows"},
    {.field = FieldId::table_rows, .argument = "compress_keys.compressed_rows"},
    {.field = FieldId::query_start_loc, .argument = "*.query_start_loc"},
    {.field = FieldId::seq_lens, .argument = "*.seq_lens"},
    {.field = FieldId::prompt_lens, .argument = "select_blocks.prompt_lens"},
    {.field = FieldId::cp_spans, .argument = "compress_keys.spans"},
    {.field = FieldId::num_seqs, .argument = "*.num_seqs"},
    {.field = FieldId::cp_slot_mapping, .argument = "store_gathered_kv.slot_mapping"},
    {.field = FieldId::cp_ranks, .feed = Feed::kValue, .argument = {}},
    {.field = FieldId::cp_rank, .feed = Feed::kValue, .argument = {}},
};
constexpr const DerivedSpec* kDerives[] = {&kSelectedCounts, &kSelectedStarts, &kSelectedBlocks};
constexpr const DerivedSpec* kReads[] = {&kSelectedStarts, &kSelectedBlocks};
constexpr ConsumerSpec kConsumer{
    .name = "sparse_attention", .ops = kOps, .fields = kUses, .derives = kDerives, .reads = kReads};

}  // namespace

// The plan's fields on the device, for all layers.
struct SparseBackend::Launch {
  FieldView table_rows;       // [S]: of the keys
  FieldView compressed_rows;  // [S]: of the compressed keys
  FieldView query_start_loc;  // [S + 1]
  FieldView seq_lens;         // [S]
  FieldView prompt_lens;      // [S]
  FieldView spans;            // [S]
  const LiveSeqs* num_seqs = nullptr;
  StoreLaunch store;
  TensorView counts, starts, blocks;          // as they are made
  TensorView starts_to_read, blocks_to_read;  // and read
};

const ConsumerSpec& SparseBackend::spec() const { return kConsumer; }

int64_t SparseBackend::workspace_bytes(int threads, int32_t heads, int32_t kv_heads, int32_t head_dim) const {
  return std::max({paged_attention_workspace_bytes(threads, heads, kv_heads, head_dim),
                   select_blocks_workspace_bytes(threads, head_dim, options_.max_tokens),
                   store_workspace_bytes(context_, kv_heads, head_dim)});
}

Status SparseBackend::prepare(const Binder& binder, GroupId group, PreparedStep& step) const {
  Launch& launch = step.add<Launch>(kConsumer, group);
  LS_TRY(bind_store(binder, kConsumer, group, context_, launch.store));
  LS_TRY(binder.bind(kConsumer, {{FieldId::table_rows, launch.table_rows, group},
                                 {FieldId::table_rows, launch.compressed_rows, options_.compressed},
                                 {FieldId::query_start_loc, launch.query_start_loc},
                                 {FieldId::seq_lens, launch.seq_lens},
                                 {FieldId::prompt_lens, launch.prompt_lens},
                                 {FieldId::cp_spans, launch.spans},
                                 {field::num_seqs, launch.num_seqs}}));
  launch.counts = LS_TRY(binder.derive_on_device(kConsumer, kSelectedCounts));
  launch.starts = LS_TRY(binder.derive_on_device(kConsumer, kSelectedStarts));
  launch.blocks = LS_TRY(binder.derive_on_device(kConsumer, kSelectedBlocks));
  launch.starts_to_read = LS_TRY(binder.derived(kConsumer, kSelectedStarts));
  launch.blocks_to_read = LS_TRY(binder.derived(kConsumer, kSelectedBlocks));
  return {};
}

// Where ranks share the rows a sequence is two in the plan, whose spans are the same.
Status SparseBackend::compress(const Launch& launch, int32_t layer, const Launcher& on) const {
  const CompressedView& compressed = storage_.compressed(layer);
  return compress_keys(on,
                       {.cache = storage_.kv(layer),
                        .page_table = storage_.page_table(),
                        .table_rows = launch.table_rows,
                        .compressed_table = storage_.compressed_table(),
                        .compressed_rows = launch.compressed_rows,
                        .spans = launch.spans,
                        .k1 = compressed.k1,
                        .k2 = compressed.k2,
                        .num_seqs = launch.num_seqs,
                        .parts = launch.store.cut.shared() ? 2 : 1},
                       "compress_keys");
}

// Of the derived fields the rows of the bucket.
Status SparseBackend::select(const Launch& launch, const AttentionTensors& tensors, int32_t layer,
                             const Launcher& on) const {
  const CompressedView& compressed = storage_.compressed(layer);
  const int64_t lists = tensors.q.dim(0) * tensors.k.dim(1);
  return select_blocks(on,
                       {.q = tensors.q,
                        .k1 = compressed.k1,
                        .k2 = compressed.k2,
                        .page_table = storage_.compressed_table(),
                        .table_rows = launch.compressed_rows,
                        .query_start_loc = launch.query_start_loc,
                        .seq_lens = launch.seq_lens,
                        .prompt_lens = launch.prompt_lens,
                        .counts = launch.counts.rows(0, lists),
                        .starts = launch.starts.rows(0, lists + 1),
                        .blocks = launch.blocks.rows(0, lists * options_.most_blocks),
                        .workspace = tensors.workspace,
                        .num_rows = launch.store.num_rows,
                        .num_seqs = launch.num_seqs,
                        .init_blocks = options_.init_blocks,
                        .window_blocks = options_.window_blocks,
                        .most_blocks = options_.most_blocks,
                        .dense_len = options_.dense_len,
                        .scale = tensors.scale},
                       "select_blocks");
}

Status SparseBackend::attend(const Launch& launch, const AttentionTensors& tensors, int32_t layer,
                             const Launcher& on) const {
  const int64_t lists = tensors.q.dim(0) * tensors.k.dim(1);
  return sparse_attention(on,
                          {.q = tensors.q,
                           .cache = storage_.kv(layer),
                           .page_table = storage_.page_table(),
                           .table_rows = launch.table_rows,
                           .query_start_loc = launch.query_start_loc,
                           .seq_lens = launch.seq_lens,
                           .starts = launch.starts_to_read.rows(0, lists + 1),
                           .blocks = launch.blocks_to_read.rows(0, lists * options_.most_blocks),
                           .out = tensors.out,
                           .workspace = tensors.workspace,
                           .num_rows = launch.store.num_rows,
                           .num_seqs = launch.num_seqs,
                           .scale = tensors.scale},
                          "attention");
}

Status SparseBackend::run(const PreparedStep& step, GroupId group, const AttentionTensors& tensors,
                          int32_t layer, const Launcher& on) const {
  const Launch& launch = *LS_TRY(step.get<Launch>(kConsumer, group));
  LS_TRY(store_rows(launch.store, context_, tensors, storage_.kv(layer), on));
  LS_TRY(compress(launch, layer, on));
  LS_TRY(select(launch, tensors, layer, on));
  return attend(launch, tensors, layer, on);
}

}  // namespace lockstep
