// Ops that write the paged caches and their device-resident page tables.
#pragma once

#include "base/units.h"
#include "kernels/common/launcher.h"
#include "kernels/kv_cache/kv_view.h"
#include "tensor/op_spec.h"
#include "tensor/tensor.h"

namespace lockstep {

// cache[slot_mapping[t]] = (k[t], v[t]) for rows whose slot is not SKIP.
struct StoreKvArgs {
  TensorView k;             // [T, K, D] f32, any stride of T and K
  TensorView v;             // [T, K, D] f32, any stride of T and K
  TensorView slot_mapping;  // [T] i64 (SlotOrSkip): page * page_tokens + offset, or -1
  KvView cache;
  const LiveRows* num_rows = nullptr;  // null in store_gathered_kv
};

// page_table[row, index] = page for each edit of this group; first launch of a step.
struct TableEditsArgs {
  TensorView edits;                    // [N, 3] i32: table row, index, page
  TensorView page_table;               // [R, M] i32
  const int32_t* num_edits = nullptr;  // live edits, at the front
};

// Whole pages (or state slots) from source to target, before anything else reads them. Bytes, so one op
// serves every dtype and layout: a page's planes are `segments` runs of `segment_bytes`.
struct CopyPagesArgs {
  TensorView copies;  // [N, 2] i32: source, target
  const int32_t* num_copies = nullptr;
  void* base = nullptr;
  int64_t num_pages = 0;             // there are: copies of other ids are passed over
  int64_t page_stride_bytes = 0;     // from one page to the next
  int64_t segment_stride_bytes = 0;  // from one run of a page to the next (layers or planes)
  int64_t segment_bytes = 0;
  int64_t segments = 0;
};

inline constexpr OpArg kStoreKvArgs[] = {
    {LS_ARG(StoreKvArgs, k), .access = Access::kRead, .dims = "TKD", .rows = RowsTouched::kLive,
     .any_stride = true},
    {LS_ARG(StoreKvArgs, v), .access = Access::kRead, .dims = "TKD", .rows = RowsTouched::kLive,
     .any_stride = true},
    {LS_ARG(StoreKvArgs, slot_mapping), .access = Access::kRead, .dims = "T", .rows = RowsTouched::kLive},
    {LS_ARG(StoreKvArgs, cache), .access = Access::kWrite, .dims = "PKBD", .rows = RowsTouched::kOwned,
     .pad = PadRows::kUntouched, .any_stride = true},
    {LS_ARG(StoreKvArgs, num_rows), .rows = RowsTouched::kNone},
};
inline constexpr OpSpec kStoreKvSpec{
    .name = "store_kv", .args = kStoreKvArgs, .args_bytes = sizeof(StoreKvArgs)};

// N stands for the rows of all ranks: live and pad ones in turn, told apart by their slots.
inline constexpr OpArg kStoreGatheredKvArgs[] = {
    {LS_ARG(StoreKvArgs, k), .access = Access::kRead, .dims = "NKD", .any_stride = true},
    {LS_ARG(StoreKvArgs, v), .access = Access::kRead, .dims = "NKD", .any_stride = true},
    {LS_ARG(StoreKvArgs, slot_mapping), .access = Access::kRead, .dims = "N"},
    {LS_ARG(StoreKvArgs, cache), .access = Access::kWrite, .dims = "PKBD", .rows = RowsTouched::kOwned,
     .pad = PadRows::kUntouched, .any_stride = true},
    {LS_ARG(StoreKvArgs, num_rows), .access = Access::kNone, .rows = RowsTouched::kNone},
};
inline constexpr OpSpec kStoreGatheredKvSpec{
    .name = "store_gathered_kv", .args = kStoreGatheredKvArgs, .args_bytes = sizeof(StoreKvArgs)};

inline constexpr OpArg kTableEditsArgs[] = {
    {LS_ARG(TableEditsArgs, edits), .access = Access::kRead, .dims = "N3", .rows = RowsTouched::kLive,
     .any_stride = true},
    {LS_ARG(TableEditsArgs, page_table), .access = Access::kWrite, .dims = "RM", .rows = RowsTouched::kOwned,
     .pad = PadRows::kUntouched, .any_stride = true},
    {LS_ARG(TableEditsArgs, num_edits), .rows = RowsTouched::kNone},
};
inline constexpr OpSpec kTableEditsSpec{
    .name = "table_edits", .args = kTableEditsArgs, .args_bytes = sizeof(TableEditsArgs)};

// Page p is `segments` runs, each of `segment_bytes`.
inline constexpr ExtentLevel kCopyPagesExtent[] = {
    {"num_pages", "page_stride_bytes"}, {"segments", "segment_stride_bytes"}, {"segment_bytes", ""}};
inline constexpr OpArg kCopyPagesArgs[] = {
    {LS_ARG(CopyPagesArgs, copies), .access = Access::kRead, .dims = "N2", .rows = RowsTouched::kLive,
     .any_stride = true},
    {LS_ARG(CopyPagesArgs, num_copies), .rows = RowsTouched::kNone},
    {LS_ARG(CopyPagesArgs, base), .access = Access::kReadWrite, .dims = "P", .rows = RowsTouched::kOwned,
     .pad = PadRows::kUntouched, .extent = kCopyPagesExtent},
    {LS_ARG(CopyPagesArgs, num_pages), .rows = RowsTouched::kNone},
    {LS_ARG(CopyPagesArgs, page_stride_bytes), .rows = RowsTouched::kNone},
    {LS_ARG(CopyPagesArgs, segment_stride_bytes), .rows = RowsTouched::kNone},
    {LS_ARG(CopyPagesArgs, segment_bytes), .rows = RowsTouched::kNone},
    {LS_ARG(CopyPagesArgs, segments), .rows = RowsTouched::kNone},
};
inline constexpr OpSpec kCopyPagesSpec{
    .name = "copy_pages", .args = kCopyPagesArgs, .args_bytes = sizeof(CopyPagesArgs)};

// Errors of all: kInvalidArgument for shapes or dtypes that do not fit. Cost: one launch each.
Status store_kv(const Launcher& on, const StoreKvArgs& args, std::string_view stage);
// Every row that has a slot, wherever it stands: the rows of context-parallel ranks, one rank after the
// other.
Status store_gathered_kv(const Launcher& on, const StoreKvArgs& args, std::string_view stage);
Status table_edits(const Launcher& on, const TableEditsArgs& args, std::string_view stage);
Status copy_pages(const Launcher& on, const CopyPagesArgs& args, std::string_view stage);

}  // namespace lockstep
