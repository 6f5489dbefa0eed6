// What a device says about the plan that its kernels read: digests of its bytes, and whether its structure
// holds. Both look at device memory alone, so that what arrived is compared with what was sent.
#pragma once

#include <string_view>

#include "base/units.h"
#include "kernels/common/launcher.h"
#include "tensor/op_spec.h"
#include "tensor/tensor.h"

namespace lockstep {

// out[0] = *epoch;  out[1 + i] = digest_bytes of bytes [offset, offset + size) of the image, for each range.
struct PlanDigestArgs {
  TensorView image;              // [B] u8
  TensorView ranges;             // [N, 2] i64: offset and size in bytes
  TensorView out;                // [N + 1] u64
  const Epoch* epoch = nullptr;  // as it lies in the image
};

// out = {rule, index, found, expected}: the first rule that the plan's bytes break, or {kHolds, 0, 0, 0}.
struct PlanStructureArgs {
  TensorView query_start_loc;    // [S + 1] i32
  TensorView seq_lens;           // [S] i32
  TensorView table_rows;         // [S] i32; null data: the plan has no pages
  TensorView table_digests;      // [S] u64: of the pages that hold the sequence's tokens; null as above
  TensorView page_table;         // [R, M] i32; null as above. Row 0 and page 0 are reserved
  TensorView out;                // [4] i64
  const Epoch* epoch = nullptr;  // says which tables have their turn
  const LiveRows* num_rows = nullptr;
  const LiveSeqs* num_seqs = nullptr;
  int32_t page_tokens = 0;  // tokens per page
  int32_t num_pages = 0;    // of the pool
  int32_t tables = 0;       // how many sequences' tables are looked at; the rest have their turn later
};

// In the order in which they are looked at. `index` is an entry of the field that the rule is about, found
// and expected are its values.
enum class StructureRule : int64_t {
  kHolds,
  kSequencesFit,    // num_seqs lies in [0, S]; expected: S
  kStartsAtZero,    // query_start_loc[0]
  kNeverFalls,      // query_start_loc[index]; expected: at least that
  kEndsAtNumRows,   // query_start_loc[num_seqs]
  kRowsFitLength,   // seq_lens[index]; expected: at least the sequence's rows
  kTableRowExists,  // table_rows[index], in [1, R); expected: R
  kPagesFitTable,   // pages that seq_lens[index] takes; expected: at most M
  kPageExists,      // page_table[index / M, index % M], in [1, num_pages); expected: num_pages
  kTableDigest      // of the pages of sequence index; expected: table_digests[index]
};

// The check of docs/checks.md that a rule belongs to, and the rule in words: "P1", "query_start_loc never
// falls".
std::string_view check_of(StructureRule rule);
std::string_view name_of(StructureRule rule);

inline constexpr OpArg kPlanDigestArgs[] = {
    {LS_ARG(PlanDigestArgs, image), .access = Access::kRead, .dims = "B", .rows = RowsTouched::kNone},
    {LS_ARG(PlanDigestArgs, ranges), .access = Access::kRead, .dims = "N2", .rows = RowsTouched::kNone},
    {LS_ARG(PlanDigestArgs, out), .access = Access::kWrite, .dims = "N1", .rows = RowsTouched::kNone},
    {LS_ARG(PlanDigestArgs, epoch), .rows = RowsTouched::kNone},
};
inline constexpr OpSpec kPlanDigestSpec{
    .name = "plan_digest", .args = kPlanDigestArgs, .args_bytes = sizeof(PlanDigestArgs)};

inline constexpr OpArg kPlanStructureArgs[] = {
    {LS_ARG(PlanStructureArgs, query_start_loc), .access = Access::kRead, .dims = "S1",
     .rows = RowsTouched::kLive},
    {LS_ARG(PlanStructureArgs, seq_lens), .access = Access::kRead, .dims = "S", .rows = RowsTouched::kLive},
    {LS_ARG(PlanStructureArgs, table_rows), .access = Access::kRead, .dims = "S", .rows = RowsTouched::kLive},
    {LS_ARG(PlanStructureArgs, table_digests), .access = Access::kRead, .dims = "S",
     .rows = RowsTouched::kLive},
    {LS_ARG(PlanStructureArgs, page_table), .access = Access::kRead, .dims = "RM",
     .rows = RowsTouched::kOwned, .any_stride = true},
    {LS_ARG(PlanStructureArgs, out), .access = Access::kWrite, .dims = "4", .rows = RowsTouched::kNone},
    {LS_ARG(PlanStructureArgs, epoch), .rows = RowsTouched::kNone},
    {LS_ARG(PlanStructureArgs, num_rows), .rows = RowsTouched::kNone},
    {LS_ARG(PlanStructureArgs, num_seqs), .rows = RowsTouched::kNone},
    {LS_ARG(PlanStructureArgs, page_tokens), .rows = RowsTouched::kNone},
    {LS_ARG(PlanStructureArgs, num_pages), .rows = RowsTouched::kNone},
    {LS_ARG(PlanStructureArgs, tables), .rows = RowsTouched::kNone},
};
inline constexpr OpSpec kPlanStructureSpec{
    .name = "plan_structure", .args = kPlanStructureArgs, .args_bytes = sizeof(PlanStructureArgs)};

// A range that leaves the image digests to 0.
// Errors: kInvalidArgument for shapes or dtypes that do not fit. Cost: one launch on the caller's thread,
// about 0.05 ns per byte and 5 ns per range on an EPYC of 2.6 GHz; no allocation (plan_check_bench).
Status plan_digest(const Launcher& on, const PlanDigestArgs& args, std::string_view stage);

// Reads nothing outside its tensors, whatever the plan's bytes are. Tables take turns by epoch: `tables` of
// them from sequence epoch * tables on, around the live ones; as many as there are sequences, or more: all.
// Errors: as plan_digest. Cost: one launch on the caller's thread, about 1 ns per sequence and per page
// looked at; no allocation.
Status plan_structure(const Launcher& on, const PlanStructureArgs& args, std::string_view stage);

}  // namespace lockstep
