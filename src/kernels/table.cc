#include "kernels/table.h"

#include "kernels/all_heads_norm/all_heads_norm_kernels.h"
#include "kernels/batch_invariant.h"
#include "kernels/block_selection/block_selection_kernels.h"
#include "kernels/causal_conv/causal_conv_kernels.h"
#include "kernels/compressed_keys/compressed_keys_kernels.h"
#include "kernels/embedding/embedding_kernels.h"
#include "kernels/gate/gate_kernels.h"
#include "kernels/gated_delta/gated_delta_kernels.h"
#include "kernels/gated_norm/gated_norm_kernels.h"
#include "kernels/kv_cache/kv_cache_kernels.h"
#include "kernels/lightning/lightning_kernels.h"
#include "kernels/linear/linear_kernels.h"
#include "kernels/moe/moe_kernels.h"
#include "kernels/paged_attention/paged_attention_kernels.h"
#include "kernels/plan_check/plan_check_kernels.h"
#include "kernels/qk_norm_rope/qk_norm_rope_kernels.h"
#include "kernels/rms_norm/rms_norm_kernels.h"
#include "kernels/rows/rows_kernels.h"
#include "kernels/sample/sample_kernels.h"
#include "kernels/sparse_attention/sparse_attention_kernels.h"
#include "kernels/swiglu/swiglu_kernels.h"
#ifdef LOCKSTEP_CUDA
#include "kernels/cuda_kernels.h"
#endif

namespace lockstep {
namespace {

// The oracles. What stands here and in no later table is waiting for memory, not for arithmetic.
constexpr KernelTable reference_table() {
  KernelTable table{.name = "reference"};
  table.rms_norm = reference::rms_norm;
  table.rope_angles = reference::rope_angles;
  table.qk_norm_rope = reference::qk_norm_rope;
  table.head_squares = reference::head_squares;
  table.all_heads_norm = reference::all_heads_norm;
  table.store_kv = reference::store_kv;
  table.table_edits = reference::table_edits;
  table.copy_pages = reference::copy_pages;
  table.paged_attention = reference::paged_attention;
  table.compress_keys = reference::compress_keys;
  table.select_blocks = reference::select_blocks;
  table.sparse_attention = reference::sparse_attention;
  table.sigmoid_gate = reference::sigmoid_gate;
  table.gated_add = reference::gated_add;
  table.embedding = reference::embedding;
  table.linear = reference::linear;
  table.swiglu = reference::swiglu;
  table.moe_route = reference::moe_route;
  table.moe_gate_up = reference::moe_gate_up;
  table.moe_down = reference::moe_down;
  table.moe_combine = reference::moe_combine;
  table.causal_conv = reference::causal_conv;
  table.causal_conv_state = reference::causal_conv_state;
  table.gated_delta = reference::gated_delta;
  table.lightning = reference::lightning;
  table.gated_norm = reference::gated_norm;
  table.gather_rows = reference::gather_rows;
  table.resolve_tokens = reference::resolve_tokens;
  table.count_tokens = reference::count_tokens;
  table.sample = reference::sample;
  table.plan_digest = reference::plan_digest;
  table.plan_structure = reference::plan_structure;
  return table;
}

constexpr KernelTable avx2_table() {
  KernelTable table = reference_table();
  table.name = "avx2";
  table.rms_norm = avx2::rms_norm;
  table.qk_norm_rope = avx2::qk_norm_rope;
  table.head_squares = avx2::head_squares;
  table.all_heads_norm = avx2::all_heads_norm;
  table.store_kv = avx2::store_kv;
  table.paged_attention = avx2::paged_attention;
  table.compress_keys = avx2::compress_keys;
  table.select_blocks = avx2::select_blocks;
  table.sparse_attention = avx2::sparse_attention;
  table.sigmoid_gate = avx2::sigmoid_gate;
  table.gated_add = avx2::gated_add;
  table.linear_prepare = avx2::linear_prepare;
  table.linear = avx2::linear;
  table.swiglu = avx2::swiglu;
  table.moe_route = avx2::moe_route;
  table.moe_sort = moe_sort;
  table.moe_prepare = avx2::moe_prepare;
  table.moe_gate_up = avx2::moe_gate_up;
  table.moe_down = avx2::moe_down;
  table.moe_combine = avx2::moe_combine;
  table.gated_delta = avx2::gated_delta;
  table.causal_conv = avx2::causal_conv;
  table.causal_conv_state = avx2::causal_conv_state;
  table.lightning = avx2::lightning;
  table.gated_norm = avx2::gated_norm;
  table.sample = avx2::sample;
  return table;
}

constexpr KernelTable avx512_table() {
  KernelTable table = avx2_table();
  table.name = "avx512";
  table.rms_norm = avx512::rms_norm;
  table.qk_norm_rope = avx512::qk_norm_rope;
  table.head_squares = avx512::head_squares;
  table.all_heads_norm = avx512::all_heads_norm;
  table.store_kv = avx512::store_kv;
  table.paged_attention = avx512::paged_attention;
  table.compress_keys = avx512::compress_keys;
  table.select_blocks = avx512::select_blocks;
  table.sparse_attention = avx512::sparse_attention;
  table.sigmoid_gate = avx512::sigmoid_gate;
  table.gated_add = avx512::gated_add;
  table.linear_prepare = avx512::linear_prepare;
  table.linear = avx512::linear;
  table.swiglu = avx512::swiglu;
  table.moe_route = avx512::moe_route;
  table.moe_prepare = avx512::moe_prepare;
  table.moe_gate_up = avx512::moe_gate_up;
  table.moe_down = avx512::moe_down;
  table.moe_combine = avx512::moe_combine;
  table.gated_delta = avx512::gated_delta;
  table.causal_conv = avx512::causal_conv;
  table.causal_conv_state = avx512::causal_conv_state;
  table.lightning = avx512::lightning;
  table.gated_norm = avx512::gated_norm;
  table.sample = avx512::sample;
  return table;
}

constexpr KernelTable avx512bf16_table() {
  KernelTable table = avx512_table();
  table.name = "avx512bf16";
  table.linear_prepare = avx512bf16::linear_prepare;
  table.linear = avx512bf16::linear;
  table.moe_prepare = avx512bf16::moe_prepare;
  table.moe_gate_up = avx512bf16::moe_gate_up;
  table.moe_down = avx512bf16::moe_down;
  return table;
}

// Whatever is missing is reported by its front door.
constexpr KernelTable sm90_table() {
  KernelTable table{.name = "sm90"};
#ifdef LOCKSTEP_CUDA
  table.embedding = cuda::embedding;
  table.rms_norm = cuda::rms_norm;
  table.rope_angles = cuda::rope_angles;
  table.qk_norm_rope = cuda::qk_norm_rope;
  table.head_squares = cuda::head_squares;
  table.all_heads_norm = cuda::all_heads_norm;
  table.store_kv = cuda::store_kv;
  table.table_edits = cuda::table_edits;
  table.copy_pages = cuda::copy_pages;
  table.paged_attention = cuda::paged_attention;
  table.compress_keys = cuda::compress_keys;
  table.select_blocks = cuda::select_blocks;
  table.sparse_attention = cuda::sparse_attention;
  table.sigmoid_gate = cuda::sigmoid_gate;
  table.gated_add = cuda::gated_add;
  table.linear_prepare = cuda::linear_prepare;
  table.linear = cuda::linear;
  table.swiglu = cuda::swiglu;
  table.moe_route = cuda::moe_route;
  table.moe_sort = cuda::moe_sort;
  table.moe_prepare = cuda::moe_prepare;
  table.moe_gate_up = cuda::moe_gate_up;
  table.moe_down = cuda::moe_down;
  table.moe_combine = cuda::moe_combine;
  table.causal_conv = cuda::causal_conv;
  table.causal_conv_state = cuda::causal_conv_state;
  table.gated_delta = cuda::gated_delta;
  table.lightning = cuda::lightning;
  table.gated_norm = cuda::gated_norm;
  table.gather_rows = cuda::gather_rows;
  table.resolve_tokens = cuda::resolve_tokens;
  table.count_tokens = cuda::count_tokens;
  table.sample = cuda::sample;
  table.plan_digest = cuda::plan_digest;
  table.plan_structure = cuda::plan_structure;
#endif
  return table;
}

// Without products whose order of sums follows from the number of rows.
constexpr KernelTable batch_invariant_sm90_table() {
  KernelTable table = sm90_table();
#ifdef LOCKSTEP_CUDA
  table.linear_prepare = nullptr;
  table.linear = cuda::linear_by_row;
  table.moe_prepare = cuda::moe_prepare_by_row;
  table.moe_gate_up = cuda::moe_gate_up_by_row;
  table.moe_down = cuda::moe_down_by_row;
#endif
  return table;
}

constexpr KernelTable kReferenceTable = reference_table();
constexpr KernelTable kAvx2Table = avx2_table();
constexpr KernelTable kAvx512Table = avx512_table();
constexpr KernelTable kAvx512Bf16Table = avx512bf16_table();
constexpr KernelTable kSm90Table = sm90_table();
constexpr KernelTable kBatchInvariantSm90Table = batch_invariant_sm90_table();

}  // namespace

const KernelTable& kernel_table(Isa isa) {
  switch (isa) {
    case Isa::kReference: return kReferenceTable;
    case Isa::kAvx2: return kAvx2Table;
    case Isa::kAvx512: return kAvx512Table;
    case Isa::kAvx512Bf16: return kAvx512Bf16Table;
    case Isa::kSm90: return kSm90Table;
  }
  return kReferenceTable;
}

const KernelTable& batch_invariant_table(Isa isa) {
  return isa == Isa::kSm90 ? kBatchInvariantSm90Table : kernel_table(isa);
}

Status missing_kernel(std::string_view op, const KernelTable& table) {
  return error(Code::kUnimplemented, op, ": the kernel table ", table.name,
               " has no such kernel; use the table of another instruction set");
}

}  // namespace lockstep
