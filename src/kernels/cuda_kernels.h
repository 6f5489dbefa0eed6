// The kernels for NVIDIA Hopper GPUs, in builds of the preset cuda. Each launches on worker.queue, on a grid
// that depends on shapes alone.
#pragma once

#include "kernels/table.h"

namespace lockstep::cuda {
void embedding(const EmbeddingArgs& args, Worker worker);
void rms_norm(const RmsNormArgs& args, Worker worker);
void rope_angles(const RopeAnglesArgs& args, Worker worker);
void qk_norm_rope(const QkNormRopeArgs& args, Worker worker);
void head_squares(const HeadSquaresArgs& args, Worker worker);
void all_heads_norm(const AllHeadsNormArgs& args, Worker worker);
void store_kv(const StoreKvArgs& args, Worker worker);
void table_edits(const TableEditsArgs& args, Worker worker);
void copy_pages(const CopyPagesArgs& args, Worker worker);
void paged_attention(const PagedAttentionArgs& args, Worker worker);
void compress_keys(const CompressKeysArgs& args, Worker worker);
void select_blocks(const SelectBlocksArgs& args, Worker worker);
void sparse_attention(const SparseAttentionArgs& args, Worker worker);
void sigmoid_gate(const SigmoidGateArgs& args, Worker worker);
void gated_add(const GatedAddArgs& args, Worker worker);
void linear_prepare(const LinearArgs& args, Worker worker);
void linear(const LinearArgs& args, Worker worker);
void linear_by_row(const LinearArgs& args, Worker worker);
void swiglu(const SwigluArgs& args, Worker worker);
void moe_route(const MoeRouteArgs& args, Worker worker);
void moe_sort(const MoeExpertsArgs& args, Worker worker);
void moe_prepare(const MoeExpertsArgs& args, Worker worker);
void moe_gate_up(const MoeExpertsArgs& args, Worker worker);
void moe_down(const MoeExpertsArgs& args, Worker worker);
void moe_combine(const MoeExpertsArgs& args, Worker worker);
// A row has the same bits whatever shares its batch; where experts have many choices, slower.
void moe_prepare_by_row(const MoeExpertsArgs& args, Worker worker);
void moe_gate_up_by_row(const MoeExpertsArgs& args, Worker worker);
void moe_down_by_row(const MoeExpertsArgs& args, Worker worker);
void causal_conv(const CausalConvArgs& args, Worker worker);
void causal_conv_state(const CausalConvArgs& args, Worker worker);
void gated_delta(const GatedDeltaArgs& args, Worker worker);
void lightning(const LightningArgs& args, Worker worker);
void gated_norm(const GatedNormArgs& args, Worker worker);
void gather_rows(const GatherRowsArgs& args, Worker worker);
void resolve_tokens(const ResolveTokensArgs& args, Worker worker);
void count_tokens(const CountTokensArgs& args, Worker worker);
void sample(const SampleArgs& args, Worker worker);
void plan_digest(const PlanDigestArgs& args, Worker worker);
void plan_structure(const PlanStructureArgs& args, Worker worker);
}  // namespace lockstep::cuda
