// The one list of what a KernelTable has: each op's spec beside the member that holds its kernel.
#pragma once

#include <cstddef>
#include <string_view>

#include "kernels/table.h"

namespace lockstep {

// Calls visit(spec, member) for each kernel of a table; the member is a Kernel<Args> KernelTable::*.
template <typename Visit>
constexpr void for_each_kernel(Visit&& visit) {
  visit(kEmbeddingSpec, &KernelTable::embedding);
  visit(kRmsNormSpec, &KernelTable::rms_norm);
  visit(kRopeAnglesSpec, &KernelTable::rope_angles);
  visit(kQkNormRopeSpec, &KernelTable::qk_norm_rope);
  visit(kHeadSquaresSpec, &KernelTable::head_squares);
  visit(kAllHeadsNormSpec, &KernelTable::all_heads_norm);
  visit(kStoreKvSpec, &KernelTable::store_kv);
  visit(kTableEditsSpec, &KernelTable::table_edits);
  visit(kCopyPagesSpec, &KernelTable::copy_pages);
  visit(kPagedAttentionSpec, &KernelTable::paged_attention);
  visit(kCompressKeysSpec, &KernelTable::compress_keys);
  visit(kSelectBlocksSpec, &KernelTable::select_blocks);
  visit(kSparseAttentionSpec, &KernelTable::sparse_attention);
  visit(kSigmoidGateSpec, &KernelTable::sigmoid_gate);
  visit(kGatedAddSpec, &KernelTable::gated_add);
  visit(kLinearPrepareSpec, &KernelTable::linear_prepare);
  visit(kLinearSpec, &KernelTable::linear);
  visit(kSwigluSpec, &KernelTable::swiglu);
  visit(kMoeRouteSpec, &KernelTable::moe_route);
  visit(kMoeSortSpec, &KernelTable::moe_sort);
  visit(kMoePrepareSpec, &KernelTable::moe_prepare);
  visit(kMoeGateUpSpec, &KernelTable::moe_gate_up);
  visit(kMoeDownSpec, &KernelTable::moe_down);
  visit(kMoeCombineSpec, &KernelTable::moe_combine);
  visit(kCausalConvSpec, &KernelTable::causal_conv);
  visit(kCausalConvStateSpec, &KernelTable::causal_conv_state);
  visit(kGatedDeltaSpec, &KernelTable::gated_delta);
  visit(kLightningSpec, &KernelTable::lightning);
  visit(kGatedNormSpec, &KernelTable::gated_norm);
  visit(kGatherRowsSpec, &KernelTable::gather_rows);
  visit(kResolveTokensSpec, &KernelTable::resolve_tokens);
  visit(kCountTokensSpec, &KernelTable::count_tokens);
  visit(kSampleSpec, &KernelTable::sample);
  visit(kPlanDigestSpec, &KernelTable::plan_digest);
  visit(kPlanStructureSpec, &KernelTable::plan_structure);
}

inline constexpr size_t kKernels = 35;
static_assert(sizeof(KernelTable) == sizeof(std::string_view) + kKernels * sizeof(void (*)()),
              "for_each_kernel names every member of KernelTable");

}  // namespace lockstep
