#include "kernels/block_selection/block_selection.h"

#include "kernels/block_selection/select_scratch.h"
#include "kernels/common/checks.h"
#include "kernels/compressed_keys/compressed_keys.h"
#include "kernels/table.h"

namespace lockstep {
namespace {

Status check_sizes(const SelectBlocksArgs& args) {
  const int64_t heads = args.q.dim(1), kv_heads = args.k1.dim(1);
  if (args.q.dim(2) != args.k1.dim(3) || heads % kv_heads != 0 || heads / kv_heads > kMostGroupHeads) {
    return error(Code::kInvalidArgument, "select_blocks: q has shape ", args.q.shape,
                 "; expected D = ", args.k1.dim(3), " and H a multiple of K = ", kv_heads,
                 " as in k1, at most ", kMostGroupHeads, " times");
  }
  if (args.init_blocks < 0 || args.window_blocks < 0 || args.dense_len < 0 ||
      args.most_blocks < int64_t{args.init_blocks} + args.window_blocks + 1) {
    return error(Code::kInvalidArgument, "select_blocks: ", args.init_blocks, " first blocks, ",
                 args.window_blocks, " before the row's own and ", args.most_blocks, " in all, dense below ",
                 args.dense_len,
                 " tokens; expected none below 0 and all to hold the others and the row's own");
  }
  const int64_t lists = args.q.dim(0) * kv_heads;
  if (args.counts.shape == Shape{lists} && args.starts.shape == Shape{lists + 1} &&
      args.blocks.shape == Shape{lists * args.most_blocks})
    return {};
  return error(Code::kInvalidArgument, "select_blocks: counts, starts and blocks have shapes ",
               args.counts.shape, ", ", args.starts.shape, " and ", args.blocks.shape, "; expected [", lists,
               "], [", lists + 1, "] and [", lists * args.most_blocks, "]");
}

Status check_sequences(const SelectBlocksArgs& args) {
  const int64_t sequences = args.seq_lens.dim(0);
  if (args.query_start_loc.shape != Shape{sequences + 1}) {
    return error(Code::kInvalidArgument, "select_blocks: query_start_loc has shape ",
                 args.query_start_loc.shape, "; expected [", sequences + 1, "], one more than seq_lens ",
                 args.seq_lens.shape);
  }
  LS_TRY(check_num_rows("select_blocks", args.num_rows));
  return check_count("select_blocks", "num_seqs", args.num_seqs);
}

}  // namespace

int64_t select_blocks_workspace_bytes(int threads, int64_t head_dim, int64_t tokens) {
  return threads * SelectScratch::floats(head_dim, tokens) * static_cast<int64_t>(sizeof(float));
}

Status select_blocks(const Launcher& on, const SelectBlocksArgs& args, std::string_view stage) {
  LS_TRY(bind_dims("select_blocks", {{"q", args.q, "THD"},
                                     {"page_table", args.page_table, "RM"},
                                     {"table_rows", args.table_rows, "S"},
                                     {"seq_lens", args.seq_lens, "S"},
                                     {"prompt_lens", args.prompt_lens, "S"}}));
  LS_TRY(check_tensors("select_blocks", {{"q", args.q},
                                         {"page_table", args.page_table, DType::kI32},
                                         {"table_rows", args.table_rows, DType::kI32},
                                         {"query_start_loc", args.query_start_loc, DType::kI32},
                                         {"seq_lens", args.seq_lens, DType::kI32},
                                         {"prompt_lens", args.prompt_lens, DType::kI32},
                                         {"counts", args.counts, DType::kI32},
                                         {"starts", args.starts, DType::kI32},
                                         {"blocks", args.blocks, DType::kI32}}));
  int64_t page_tokens = 0;
  LS_TRY(check_compressed("select_blocks", args.k1, args.k2, page_tokens));
  LS_TRY(check_sizes(args));
  LS_TRY(check_sequences(args));
  LS_TRY(check_workspace("select_blocks", args.workspace,
                         select_blocks_workspace_bytes(on.stream.threads(), args.q.dim(2),
                                                       args.page_table.dim(1) * page_tokens)));
  if (args.q.dim(0) == 0) return {};
  if (on.table.select_blocks == nullptr) return missing_kernel("select_blocks", on.table);
  launch(on.stream, kSelectBlocksSpec, stage, on.table.select_blocks, args);
  return {};
}

}  // namespace lockstep
