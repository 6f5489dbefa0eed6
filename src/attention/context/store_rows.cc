#include "attention/context/store_rows.h"

#include "base/math.h"
#include "kernels/common/checks.h"
#include "kernels/kv_cache/kv_cache.h"

namespace lockstep {
namespace {

constexpr int64_t kAlignment = 64;  // of what is carved out of a workspace

// Of the keys and values of so many rows.
int64_t kv_bytes(int64_t rows, int64_t kv_heads, int64_t head_dim) {
  return round_up(rows * 2 * kv_heads * head_dim * int64_t{sizeof(float)}, kAlignment);
}

Status store_of_all_ranks(const StoreLaunch& launch, const ContextGroup& context,
                          const AttentionTensors& tensors, const KvView& cache, const Launcher& on) {
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
                    .group = context.group},
                   "gather_kv"));
  const TensorView flat = dense_view(gathered.data, DType::kF32, {all, 2 * heads * dim});
  return store_gathered_kv(on,
                           {.k = flat.heads(0, heads, dim, dim),
                            .v = flat.heads(heads * dim, heads, dim, dim),
                            .slot_mapping = launch.cp_slot_mapping,
                            .cache = cache},
                           "store_kv");
}

}  // namespace

Status bind_store(const Binder& binder, const ConsumerSpec& consumer, GroupId group,
                  const ContextGroup& context, StoreLaunch& launch) {
  if (context.ranks > 1) launch.cut = LS_TRY(bind_cut(binder, consumer, context));
  if (launch.cut.shared())
    LS_TRY(binder.bind(consumer, {{FieldId::cp_slot_mapping, launch.cp_slot_mapping, group}}));
  return binder.bind(
      consumer, {{FieldId::slot_mapping, launch.slot_mapping, group}, {field::num_rows, launch.num_rows}});
}

int64_t store_workspace_bytes(const ContextGroup& context, int32_t kv_heads, int32_t head_dim) {
  if (context.ranks == 1) return 0;
  // On their way: this rank's rows, and those of all.
  return kv_bytes(context.max_rows, kv_heads, head_dim) +
         kv_bytes(context.ranks * context.max_rows, kv_heads, head_dim);
}

Status store_rows(const StoreLaunch& launch, const ContextGroup& context, const AttentionTensors& tensors,
                  const KvView& cache, const Launcher& on) {
  if (launch.cut.shared()) return store_of_all_ranks(launch, context, tensors, cache, on);
  return store_kv(on,
                  {.k = tensors.k,
                   .v = tensors.v,
                   .slot_mapping = launch.slot_mapping,
                   .cache = cache,
                   .num_rows = launch.num_rows},
                  "store_kv");
}

}  // namespace lockstep
