#include "kernels/paged_attention/paged_attention.h"

#include <algorithm>

#include "kernels/common/checks.h"
#include "kernels/kv_cache/check_kv_view.h"
#include "kernels/paged_attention/attention_parts.h"
#include "kernels/paged_attention/attention_scratch.h"
#include "kernels/table.h"

namespace lockstep {
namespace {

Status check_cache(const PagedAttentionArgs& args) {
  LS_TRY(check_kv_view("paged_attention", args.cache));
  const int64_t heads = args.q.dim(1), head_dim = args.q.dim(2);
  if (head_dim != args.cache.head_dim || heads % args.cache.heads != 0) {
    return error(Code::kInvalidArgument, "paged_attention: q has shape ", args.q.shape,
                 "; expected D = ", args.cache.head_dim, " and H a multiple of K = ", args.cache.heads,
                 " as in the cache");
  }
  return {};
}

Status check_sequences(const PagedAttentionArgs& args) {
  const int64_t sequences = args.seq_lens.dim(0);
  if (args.query_start_loc.shape != Shape{sequences + 1}) {
    return error(Code::kInvalidArgument, "paged_attention: query_start_loc has shape ",
                 args.query_start_loc.shape, "; expected [", sequences + 1, "], one more than seq_lens ",
                 args.seq_lens.shape);
  }
  LS_TRY(check_num_rows("paged_attention", args.num_rows));
  return check_count("paged_attention", "num_seqs", args.num_seqs);
}

}  // namespace

int64_t paged_attention_workspace_bytes(int threads, int64_t heads, int64_t /*kv_heads*/, int64_t head_dim) {
  const int64_t scratch = threads * AttentionScratch::floats(head_dim) * static_cast<int64_t>(sizeof(float));
  return std::max(scratch, row_parts_bytes(heads, head_dim, kMostParts));
}

Status paged_attention(const Launcher& on, const PagedAttentionArgs& args, std::string_view stage) {
  LS_TRY(bind_dims("paged_attention", {{"q", args.q, "THD"},
                                       {"out", args.out, "THD"},
                                       {"page_table", args.page_table, "RM"},
                                       {"table_rows", args.table_rows, "S"},
                                       {"seq_lens", args.seq_lens, "S"}}));
  LS_TRY(check_tensors("paged_attention", {{"q", args.q},
                                           {"out", args.out},
                                           {"page_table", args.page_table, DType::kI32},
                                           {"table_rows", args.table_rows, DType::kI32},
                                           {"query_start_loc", args.query_start_loc, DType::kI32},
                                           {"seq_lens", args.seq_lens, DType::kI32}}));
  LS_TRY(check_cache(args));
  LS_TRY(check_sequences(args));
  LS_TRY(check_workspace(
      "paged_attention", args.workspace,
      paged_attention_workspace_bytes(on.stream.threads(), args.q.dim(1), args.cache.heads, args.q.dim(2))));
  if (args.out.elements() == 0) return {};
  if (on.table.paged_attention == nullptr) return missing_kernel("paged_attention", on.table);
  launch(on.stream, kPagedAttentionSpec, stage, on.table.paged_attention, args);
  return {};
}

}  // namespace lockstep
