#include "kernels/compressed_keys/compressed_keys.h"

#include "kernels/common/checks.h"
#include "kernels/kv_cache/check_kv_view.h"
#include "kernels/table.h"

namespace lockstep {

Status check_compressed(std::string_view op, const TensorView& k1, const TensorView& k2,
                        int64_t& page_tokens) {
  LS_TRY(bind_dims(op, {{"k1", k1, "PKJD"}, {"k2", k2, "PKID"}}));
  LS_TRY(check_tensors(op, {{"k1", k1, k1.dtype}, {"k2", k2, k1.dtype}}));
  if (!is_float_weight(k1.dtype)) {
    return error(Code::kInvalidArgument, op, ": k1 is ", k1.dtype, "; expected f32, f16 or bf16");
  }
  page_tokens = k1.dim(2) * kFineWindows.stride;
  if (k2.dim(2) > 0 && k2.dim(2) * kCoarseWindows.stride == page_tokens) return {};
  return error(Code::kInvalidArgument, op, ": pages have ", k1.dim(2), " rows of k1 and ", k2.dim(2),
               " of k2; expected 4 of k1 for each of k2, and at least those");
}

Status compress_keys(const Launcher& on, const CompressKeysArgs& args, std::string_view stage) {
  LS_TRY(bind_dims("compress_keys", {{"page_table", args.page_table, "RM"},
                                     {"compressed_table", args.compressed_table, "QL"},
                                     {"table_rows", args.table_rows, "S"},
                                     {"compressed_rows", args.compressed_rows, "S"},
                                     {"spans", args.spans, "S2"}}));
  LS_TRY(check_tensors("compress_keys", {{"page_table", args.page_table, DType::kI32},
                                         {"compressed_table", args.compressed_table, DType::kI32},
                                         {"table_rows", args.table_rows, DType::kI32},
                                         {"compressed_rows", args.compressed_rows, DType::kI32},
                                         {"spans", args.spans, DType::kI32}}));
  LS_TRY(check_kv_view("compress_keys", args.cache));
  int64_t page_tokens = 0;
  LS_TRY(check_compressed("compress_keys", args.k1, args.k2, page_tokens));
  if (args.k1.dtype != args.cache.dtype || args.k1.dim(1) != args.cache.heads ||
      args.k1.dim(3) != args.cache.head_dim) {
    return error(Code::kInvalidArgument, "compress_keys: k1 is ", args.k1.dtype, " ", args.k1.shape,
                 "; expected ", args.cache.dtype, ", K = ", args.cache.heads,
                 " and D = ", args.cache.head_dim, " as in the cache");
  }
  LS_TRY(check_count("compress_keys", "num_seqs", args.num_seqs));
  if (args.parts < 1) {
    return error(Code::kInvalidArgument, "compress_keys: parts is ", args.parts, "; expected at least 1");
  }
  if (args.spans.dim(0) == 0) return {};
  if (on.table.compress_keys == nullptr) return missing_kernel("compress_keys", on.table);
  launch(on.stream, kCompressKeysSpec, stage, on.table.compress_keys, args);
  return {};
}

}  // namespace lockstep
