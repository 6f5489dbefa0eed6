// The support matrix: for each op, the kernel of one instruction set. Data, not code; `lockstep devices`
// prints it and a test walks it. A null is an op this table does not have; front doors report it by name.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "device/cpu_info.h"
#include "device/stream.h"
#include "kernels/all_heads_norm/all_heads_norm.h"
#include "kernels/block_selection/block_selection.h"
#include "kernels/causal_conv/causal_conv.h"
#include "kernels/compressed_keys/compressed_keys.h"
#include "kernels/embedding/embedding.h"
#include "kernels/gate/gate.h"
#include "kernels/gated_delta/gated_delta.h"
#include "kernels/gated_norm/gated_norm.h"
#include "kernels/kv_cache/kv_cache.h"
#include "kernels/lightning/lightning.h"
#include "kernels/linear/linear.h"
#include "kernels/moe/moe.h"
#include "kernels/paged_attention/paged_attention.h"
#include "kernels/plan_check/plan_check.h"
#include "kernels/qk_norm_rope/qk_norm_rope.h"
#include "kernels/rms_norm/rms_norm.h"
#include "kernels/rows/rows.h"
#include "kernels/sample/sample.h"
#include "kernels/sparse_attention/sparse_attention.h"
#include "kernels/swiglu/swiglu.h"

namespace lockstep {

struct KernelTable {
  std::string_view name;  // "reference", "avx2", "avx512", "avx512bf16", "sm90"
  Kernel<EmbeddingArgs> embedding = nullptr;
  Kernel<RmsNormArgs> rms_norm = nullptr;
  Kernel<RopeAnglesArgs> rope_angles = nullptr;
  Kernel<QkNormRopeArgs> qk_norm_rope = nullptr;
  Kernel<HeadSquaresArgs> head_squares = nullptr;
  Kernel<AllHeadsNormArgs> all_heads_norm = nullptr;
  Kernel<StoreKvArgs> store_kv = nullptr;
  Kernel<TableEditsArgs> table_edits = nullptr;
  Kernel<CopyPagesArgs> copy_pages = nullptr;
  Kernel<PagedAttentionArgs> paged_attention = nullptr;
  Kernel<CompressKeysArgs> compress_keys = nullptr;
  Kernel<SelectBlocksArgs> select_blocks = nullptr;
  Kernel<SparseAttentionArgs> sparse_attention = nullptr;
  Kernel<SigmoidGateArgs> sigmoid_gate = nullptr;
  Kernel<GatedAddArgs> gated_add = nullptr;
  Kernel<LinearArgs> linear_prepare = nullptr;  // rounds or copies x into the workspace; null: not needed
  Kernel<LinearArgs> linear = nullptr;
  Kernel<SwigluArgs> swiglu = nullptr;
  Kernel<MoeRouteArgs> moe_route = nullptr;
  Kernel<MoeExpertsArgs> moe_sort = nullptr;     // rows by expert; null: not needed
  Kernel<MoeExpertsArgs> moe_prepare = nullptr;  // rounds or copies x, in sorted order; null: not needed
  Kernel<MoeExpertsArgs> moe_gate_up = nullptr;  // grouped x * gate_up, then silu(gate) * up
  Kernel<MoeExpertsArgs> moe_down = nullptr;     // grouped down projection
  Kernel<MoeExpertsArgs> moe_combine = nullptr;  // weighted sum per row, in the order of the row's choices
  Kernel<CausalConvArgs> causal_conv = nullptr;
  Kernel<CausalConvArgs> causal_conv_state = nullptr;  // writes the new states after every row was read
  Kernel<GatedDeltaArgs> gated_delta = nullptr;
  Kernel<LightningArgs> lightning = nullptr;
  Kernel<GatedNormArgs> gated_norm = nullptr;
  Kernel<GatherRowsArgs> gather_rows = nullptr;
  Kernel<ResolveTokensArgs> resolve_tokens = nullptr;
  Kernel<CountTokensArgs> count_tokens = nullptr;
  Kernel<SampleArgs> sample = nullptr;
  Kernel<PlanDigestArgs> plan_digest = nullptr;
  Kernel<PlanStructureArgs> plan_structure = nullptr;
};

// The table of one instruction set; entries it does not improve on come from the next lower one.
const KernelTable& kernel_table(Isa isa);

// One op of a table: `table` names the lowest table that has the same kernel; empty: no kernel.
struct KernelEntry {
  std::string_view op;
  std::string_view table;
};

// Every op of `table`, in the order of its members: the column of one instruction set in the support matrix.
std::vector<KernelEntry> kernel_entries(const KernelTable& table);

// The spec of every op that a table may have, each once, in the same order.
std::span<const OpSpec* const> all_op_specs();

// kUnimplemented, naming op and table, for a null entry.
Status missing_kernel(std::string_view op, const KernelTable& table);

}  // namespace lockstep
