#include "kernels/kv_cache/kv_cache.h"

#include "kernels/common/checks.h"
#include "kernels/kv_cache/check_kv_view.h"
#include "kernels/table.h"

namespace lockstep {
namespace {

Status check_columns(std::string_view op, std::string_view name, const TensorView& list, int64_t columns) {
  if (list.shape.rank == 2 && list.dim(1) == columns) return {};
  return error(Code::kInvalidArgument, op, ": ", name, " has shape ", list.shape, "; expected [N, ", columns,
               "]");
}

Status check_plane(std::string_view op, std::string_view name, const KvPlane& plane, int32_t head_dim) {
  if (plane.data == nullptr) {
    return error(Code::kInvalidArgument, op, ": cache ", name, " have no memory; they are required");
  }
  if (plane.chunk < 1 || head_dim % plane.chunk != 0) {
    return error(Code::kInvalidArgument, op, ": cache ", name, " lie in chunks of ", plane.chunk,
                 "; expected a divisor of D = ", head_dim);
  }
  return {};
}

Status store(const Launcher& on, const StoreKvArgs& args, std::string_view stage, const OpSpec& spec) {
  LS_TRY(bind_dims(spec.name,
                   {{"k", args.k, "TKD"}, {"v", args.v, "TKD"}, {"slot_mapping", args.slot_mapping, "T"}}));
  LS_TRY(check_tensors(spec.name,
                       {{"k", args.k}, {"v", args.v}, {"slot_mapping", args.slot_mapping, DType::kI64}}));
  LS_TRY(check_kv_view(spec.name, args.cache));
  if (args.k.dim(1) != args.cache.heads || args.k.dim(2) != args.cache.head_dim) {
    return error(Code::kInvalidArgument, spec.name, ": k has shape ", args.k.shape,
                 "; expected K = ", args.cache.heads, " and D = ", args.cache.head_dim, " as in the cache");
  }
  if (args.k.elements() == 0) return {};
  if (on.table.store_kv == nullptr) return missing_kernel(spec.name, on.table);
  launch(on.stream, spec, stage, on.table.store_kv, args);
  return {};
}

}  // namespace

Status check_kv_view(std::string_view op, const KvView& cache) {
  if (!is_float_weight(cache.dtype)) {
    return error(Code::kInvalidArgument, op, ": cache is ", cache.dtype, "; expected f32, f16 or bf16");
  }
  if (cache.num_pages < 1 || cache.page_tokens < 1 || cache.heads < 1 || cache.head_dim < 1) {
    return error(Code::kInvalidArgument, op, ": cache has ", cache.num_pages, " pages of ", cache.page_tokens,
                 " tokens, ", cache.heads, " heads of ", cache.head_dim, "; expected at least 1 of each");
  }
  LS_TRY(check_plane(op, "keys", cache.k, cache.head_dim));
  return check_plane(op, "values", cache.v, cache.head_dim);
}

Status store_kv(const Launcher& on, const StoreKvArgs& args, std::string_view stage) {
  LS_TRY(check_num_rows("store_kv", args.num_rows));
  return store(on, args, stage, kStoreKvSpec);
}

Status store_gathered_kv(const Launcher& on, const StoreKvArgs& args, std::string_view stage) {
  StoreKvArgs all = args;
  all.num_rows = nullptr;
  return store(on, all, stage, kStoreGatheredKvSpec);
}

Status table_edits(const Launcher& on, const TableEditsArgs& args, std::string_view stage) {
  LS_TRY(check_columns("table_edits", "edits", args.edits, 3));
  LS_TRY(bind_dims("table_edits", {{"page_table", args.page_table, "RM"}}));
  LS_TRY(check_tensors("table_edits",
                       {{"edits", args.edits, DType::kI32}, {"page_table", args.page_table, DType::kI32}}));
  LS_TRY(check_count("table_edits", "num_edits", args.num_edits));
  if (args.edits.elements() == 0) return {};
  if (on.table.table_edits == nullptr) return missing_kernel("table_edits", on.table);
  launch(on.stream, kTableEditsSpec, stage, on.table.table_edits, args);
  return {};
}

Status copy_pages(const Launcher& on, const CopyPagesArgs& args, std::string_view stage) {
  LS_TRY(check_columns("copy_pages", "copies", args.copies, 2));
  LS_TRY(check_tensors("copy_pages", {{"copies", args.copies, DType::kI32}}));
  LS_TRY(check_count("copy_pages", "num_copies", args.num_copies));
  if (args.num_pages < 0 || args.segments < 0 || args.segment_bytes < 0 || args.page_stride_bytes < 0) {
    return error(Code::kInvalidArgument, "copy_pages: ", args.num_pages, " pages of ", args.segments,
                 " segments of ", args.segment_bytes, " bytes, ", args.page_stride_bytes,
                 " bytes from page to page; expected none below 0");
  }
  if (args.copies.elements() == 0 || args.segments == 0 || args.segment_bytes == 0) return {};
  if (args.base == nullptr) {
    return error(Code::kInvalidArgument, "copy_pages: base has no memory; it is required");
  }
  if (on.table.copy_pages == nullptr) return missing_kernel("copy_pages", on.table);
  launch(on.stream, kCopyPagesSpec, stage, on.table.copy_pages, args);
  return {};
}

}  // namespace lockstep
