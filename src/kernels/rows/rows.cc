#include "kernels/rows/rows.h"

#include "kernels/common/checks.h"
#include "kernels/table.h"

namespace lockstep {

Status resolve_tokens(const Launcher& on, const ResolveTokensArgs& args, std::string_view stage) {
  LS_TRY(check_tensors("resolve_tokens", {{"token_ids", args.token_ids, DType::kI32},
                                          {"token_source", args.token_source, DType::kI32},
                                          {"sampled", args.sampled, DType::kI32},
                                          {"out", args.out, DType::kI32}}));
  LS_TRY(bind_dims("resolve_tokens", {{"token_ids", args.token_ids, "T"},
                                      {"token_source", args.token_source, "T"},
                                      {"sampled", args.sampled, "R"},
                                      {"out", args.out, "T"}}));
  LS_TRY(check_num_rows("resolve_tokens", args.num_rows));
  if (args.out.elements() == 0) return {};
  if (on.table.resolve_tokens == nullptr) return missing_kernel("resolve_tokens", on.table);
  launch(on.stream, kResolveTokensSpec, stage, on.table.resolve_tokens, args);
  return {};
}

Status gather_rows(const Launcher& on, const GatherRowsArgs& args, std::string_view stage) {
  LS_TRY(check_tensors("gather_rows", {{"x", args.x}, {"rows", args.rows, DType::kI32}, {"out", args.out}}));
  LS_TRY(bind_dims("gather_rows", {{"x", args.x, "TE"}, {"rows", args.rows, "R"}, {"out", args.out, "RE"}}));
  LS_TRY(check_count("gather_rows", "num_logits_rows", args.num_logits_rows));
  if (args.out.elements() == 0) return {};
  if (on.table.gather_rows == nullptr) return missing_kernel("gather_rows", on.table);
  launch(on.stream, kGatherRowsSpec, stage, on.table.gather_rows, args);
  return {};
}

}  // namespace lockstep
