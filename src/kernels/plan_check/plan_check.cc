#include "kernels/plan_check/plan_check.h"

#include "kernels/common/checks.h"
#include "kernels/table.h"

namespace lockstep {
namespace {

Status check_shape(std::string_view op, std::string_view name, const TensorView& view,
                   const Shape& expected) {
  if (view.shape == expected) return {};
  return error(Code::kInvalidArgument, op, ": ", name, " has shape ", view.shape, "; expected ", expected);
}

// A step without pages has none of the three.
Status check_pages(const PlanStructureArgs& args) {
  if (!args.page_table && !args.table_rows && !args.table_digests) return {};
  const Presence presence = args.seq_lens.dim(0) > 0 ? Presence::kRequired : Presence::kOptional;
  if (presence == Presence::kRequired && !(args.page_table && args.table_rows && args.table_digests)) {
    return error(
        Code::kInvalidArgument,
        "plan_structure: one of table_rows, table_digests and page_table has no memory; expected all "
        "three or none");
  }
  LS_TRY(check_tensors("plan_structure", {{"table_rows", args.table_rows, DType::kI32, presence},
                                          {"table_digests", args.table_digests, DType::kU64, presence},
                                          {"page_table", args.page_table, DType::kI32, presence}}));
  LS_TRY(bind_dims("plan_structure", {{"seq_lens", args.seq_lens, "S"},
                                      {"table_rows", args.table_rows, "S"},
                                      {"table_digests", args.table_digests, "S"},
                                      {"page_table", args.page_table, "RM"}}));
  if (args.page_tokens >= 1 && args.num_pages >= 1 && args.tables >= 0) return {};
  return error(Code::kInvalidArgument, "plan_structure: ", args.tables, " tables of pages of ",
               args.page_tokens, " tokens in a pool of ", args.num_pages,
               "; expected 0 tables or more, and at least 1 token and page");
}

}  // namespace

std::string_view check_of(StructureRule rule) {
  switch (rule) {
    case StructureRule::kHolds: return "";
    case StructureRule::kSequencesFit: return "P10";
    case StructureRule::kStartsAtZero:
    case StructureRule::kNeverFalls:
    case StructureRule::kEndsAtNumRows: return "P1";
    case StructureRule::kRowsFitLength: return "P2";
    case StructureRule::kTableRowExists:
    case StructureRule::kPagesFitTable:
    case StructureRule::kPageExists:
    case StructureRule::kTableDigest: return "P3";
  }
  return "";
}

std::string_view name_of(StructureRule rule) {
  switch (rule) {
    case StructureRule::kHolds: return "all rules hold";
    case StructureRule::kSequencesFit: return "num_seqs is within the bucket";
    case StructureRule::kStartsAtZero: return "query_start_loc starts at 0";
    case StructureRule::kNeverFalls: return "query_start_loc never falls";
    case StructureRule::kEndsAtNumRows: return "query_start_loc ends at num_rows";
    case StructureRule::kRowsFitLength: return "seq_lens includes the sequence's rows";
    case StructureRule::kTableRowExists: return "table_rows names a row of the page table";
    case StructureRule::kPagesFitTable: return "seq_lens fits the page table";
    case StructureRule::kPageExists: return "page_table names pages of the pool";
    case StructureRule::kTableDigest: return "page_table holds the pages of table_digests";
  }
  return "no such rule";
}

Status plan_digest(const Launcher& on, const PlanDigestArgs& args, std::string_view stage) {
  LS_TRY(check_tensors("plan_digest", {{"image", args.image, DType::kU8},
                                       {"ranges", args.ranges, DType::kI64},
                                       {"out", args.out, DType::kU64}}));
  LS_TRY(bind_dims("plan_digest", {{"image", args.image, "B"}}));
  const int64_t ranges = args.ranges.dim(0);
  LS_TRY(check_shape("plan_digest", "ranges", args.ranges, {ranges, 2}));
  LS_TRY(check_shape("plan_digest", "out", args.out, {ranges + 1}));
  LS_TRY(check_count("plan_digest", "epoch", args.epoch));
  if (!args.ranges.is_contiguous()) {
    return error(Code::kInvalidArgument, "plan_digest: ranges ", args.ranges.shape,
                 " have gaps between them; expected none");
  }
  if (on.table.plan_digest == nullptr) return missing_kernel("plan_digest", on.table);
  launch(on.stream, kPlanDigestSpec, stage, on.table.plan_digest, args, Parts::kOne);
  return {};
}

Status plan_structure(const Launcher& on, const PlanStructureArgs& args, std::string_view stage) {
  LS_TRY(check_tensors("plan_structure", {{"query_start_loc", args.query_start_loc, DType::kI32},
                                          {"seq_lens", args.seq_lens, DType::kI32},
                                          {"out", args.out, DType::kI64}}));
  LS_TRY(bind_dims("plan_structure", {{"seq_lens", args.seq_lens, "S"}}));
  LS_TRY(check_shape("plan_structure", "query_start_loc", args.query_start_loc, {args.seq_lens.dim(0) + 1}));
  LS_TRY(check_shape("plan_structure", "out", args.out, {4}));
  LS_TRY(check_pages(args));
  LS_TRY(check_count("plan_structure", "epoch", args.epoch));
  LS_TRY(check_num_rows("plan_structure", args.num_rows));
  LS_TRY(check_count("plan_structure", "num_seqs", args.num_seqs));
  if (on.table.plan_structure == nullptr) return missing_kernel("plan_structure", on.table);
  launch(on.stream, kPlanStructureSpec, stage, on.table.plan_structure, args, Parts::kOne);
  return {};
}

}  // namespace lockstep
