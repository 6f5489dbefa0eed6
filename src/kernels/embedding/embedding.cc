#include "kernels/embedding/embedding.h"

#include "kernels/common/checks.h"
#include "kernels/table.h"

namespace lockstep {

Status embedding(const Launcher& on, const EmbeddingArgs& args, std::string_view stage) {
  const TensorView table = dense_view(args.table.data, args.table.dtype, {args.table.n, args.table.k});
  LS_TRY(bind_dims("embedding",
                   {{"token_ids", args.token_ids, "T"}, {"table", table, "VE"}, {"out", args.out, "TE"}}));
  LS_TRY(check_tensors("embedding", {{"token_ids", args.token_ids, DType::kI32}, {"out", args.out}}));
  LS_TRY(check_num_rows("embedding", args.num_rows));
  if (!is_float_weight(table.dtype)) {
    return error(Code::kInvalidArgument, "embedding: table is ", table.dtype, "; expected f32, f16 or bf16");
  }
  if (args.table.experts != 1) {
    return error(Code::kInvalidArgument, "embedding: table holds ", args.table.experts,
                 " matrices; expected 1");
  }
  if (args.first_row < 0 || args.vocab < 0 || (args.vocab == 0 && args.first_row > 0)) {
    return error(Code::kInvalidArgument, "embedding: table begins at token ", args.first_row, " of ",
                 args.vocab, "; expected the vocabulary of which it is a share");
  }
  if (args.out.dim(0) == 0) return {};
  if (on.table.embedding == nullptr) return missing_kernel("embedding", on.table);
  launch(on.stream, kEmbeddingSpec, stage, on.table.embedding, args);
  return {};
}

}  // namespace lockstep
