#include "kernels/sparse_attention/sparse_attention.h"

#include "kernels/common/checks.h"
#include "kernels/kv_cache/check_kv_view.h"
#include "kernels/paged_attention/paged_attention.h"
#include "kernels/table.h"

namespace lockstep {
namespace {

Status check_shapes(const SparseAttentionArgs& args) {
  LS_TRY(check_kv_view("sparse_attention", args.cache));
  const int64_t heads = args.q.dim(1), head_dim = args.q.dim(2);
  if (head_dim != args.cache.head_dim || heads % args.cache.heads != 0) {
    return error(Code::kInvalidArgument, "sparse_attention: q has shape ", args.q.shape,
                 "; expected D = ", args.cache.head_dim, " and H a multiple of K = ", args.cache.heads,
                 " as in the cache");
  }
  const int64_t sequences = args.seq_lens.dim(0), lists = args.q.dim(0) * args.cache.heads;
  if (args.query_start_loc.shape != Shape{sequences + 1}) {
    return error(Code::kInvalidArgument, "sparse_attention: query_start_loc has shape ",
                 args.query_start_loc.shape, "; expected [", sequences + 1, "], one more than seq_lens ",
                 args.seq_lens.shape);
  }
  if (args.starts.shape != Shape{lists + 1} || args.blocks.shape.rank != 1) {
    return error(Code::kInvalidArgument, "sparse_attention: starts has shape ", args.starts.shape,
                 " and blocks ", args.blocks.shape, "; expected [", lists + 1,
                 "], a list per row and kv head,", " and [Z]");
  }
  LS_TRY(check_num_rows("sparse_attention", args.num_rows));
  return check_count("sparse_attention", "num_seqs", args.num_seqs);
}

}  // namespace

Status sparse_attention(const Launcher& on, const SparseAttentionArgs& args, std::string_view stage) {
  LS_TRY(bind_dims("sparse_attention", {{"q", args.q, "THD"},
                                        {"out", args.out, "THD"},
                                        {"page_table", args.page_table, "RM"},
                                        {"table_rows", args.table_rows, "S"},
                                        {"seq_lens", args.seq_lens, "S"}}));
  LS_TRY(check_tensors("sparse_attention", {{"q", args.q},
                                            {"out", args.out},
                                            {"page_table", args.page_table, DType::kI32},
                                            {"table_rows", args.table_rows, DType::kI32},
                                            {"query_start_loc", args.query_start_loc, DType::kI32},
                                            {"seq_lens", args.seq_lens, DType::kI32},
                                            {"starts", args.starts, DType::kI32},
                                            {"blocks", args.blocks, DType::kI32}}));
  LS_TRY(check_shapes(args));
  LS_TRY(check_workspace(
      "sparse_attention", args.workspace,
      paged_attention_workspace_bytes(on.stream.threads(), args.q.dim(1), args.cache.heads, args.q.dim(2))));
  if (args.out.elements() == 0) return {};
  if (on.table.sparse_attention == nullptr) return missing_kernel("sparse_attention", on.table);
  launch(on.stream, kSparseAttentionSpec, stage, on.table.sparse_attention, args);
  return {};
}

}  // namespace lockstep
