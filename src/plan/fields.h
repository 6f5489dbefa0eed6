// The field table: the dictionary of the step plan. One line per field; every generic mechanism walks it
// (device image, padding, digest, comparison, recording, printing, checking). Adding a field is adding a
// line.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>

#include "base/units.h"

namespace lockstep {

enum class Unit : uint8_t { kRows, kTokens, kPages, kSlots, kStates, kSequences, kBytes, kNone };

// What an entry belongs to, and so how many entries there are.
enum class Form : uint8_t {
  kScalar,        // 1
  kPerRow,        // rows of the bucket
  kPerSequence,   // sequences of the bucket
  kCumulative,    // sequences of the bucket + 1: entry s is where sequence s begins
  kPerLogitsRow,  // logits rows of the bucket
  kEdits,         // capacity max_edits; live entries in front, counted by num_table_edits
  kCopies,        // capacity max_copies; live entries in front, counted by num_copies
  kPerRank,       // data-parallel ranks
  kPerGathered,   // rows of the bucket, of each context-parallel rank in turn; none where a rank is alone
};

enum class Extent : uint8_t { kLive, kPadded };  // a count: of live things, or of the bucket's
enum class Space : uint8_t { kGlobal, kRankLocal, kKernelPage };
// Whether the context-parallel ranks that share a step hold the same entries, or those of their own rows.
enum class Share : uint8_t { kAll, kOwn };
enum class Scope : uint8_t { kPlan, kPagedGroup, kAnyGroup };  // one array, or one per cache group

// What a pad entry holds.
enum class Pad : uint8_t {
  kSequence,  // follows from the pad sequence that owns the entry: padding happens once, on the sequence list
  kValue,     // the table's pad value
  kSkip,      // SKIP
  kNone,      // there are no pad entries: scalars, ranks, and lists, whose tail is zero and not read
};

enum class Life : uint8_t {
  kLive,    // may change at each replay of a captured graph
  kFrozen,  // part of the graph key
};

// The bytes of an entry, as a kernel or a recorder reads them.
enum class Element : int32_t { kI32, kI64, kU64, kF32, kI32x2, kI32x3, kI32x4 };

// One new entry of a device-resident page table. Edits of a step are applied before anything reads the table.
struct TableEdit {
  TableRow row;
  int32_t index = 0;  // place in the row
  PageId page;
  bool operator==(const TableEdit&) const = default;
};

// A page or state slot to be copied before anything else of the step.
struct PageCopy {
  PageId source;
  PageId target;
  bool operator==(const PageCopy&) const = default;
};

// What kind of work a step does.
enum class Phase : int32_t { kIdle = 0, kDecode = 1, kPrefill = 2, kMixed = 3 };

// A rank's rows of a sequence are two segments, the early and the late chunk of context parallelism; a rank
// that is alone holds both halves of all rows. Positions [start, start + length).
struct CpSegment {
  Position start;
  RowCount length;
  bool operator==(const CpSegment&) const = default;
};
struct CpSegments {
  CpSegment prev;
  CpSegment next;
  bool operator==(const CpSegments&) const = default;
};

// clang-format off
//    name                    element type     unit        form           extent  space      share  pad        value life    scope
#define LS_PLAN_FIELDS(F)                                                                                             \
  F(token_ids,               TokenId,         Tokens,    PerRow,       Padded, Global,     Own,   Sequence,  0,  Live,   Plan)       \
  F(token_source,            TokenSource,     Rows,      PerRow,       Padded, Global,     Own,   Skip,     -1,  Live,   Plan)       \
  F(positions,               Position,        Tokens,    PerRow,       Padded, Global,     Own,   Sequence,  0,  Live,   Plan)       \
  F(state_write_slots,       StateSlotOrSkip, States,    PerRow,       Padded, RankLocal,  Own,   Skip,     -1,  Live,   Plan)       \
  F(slot_mapping,            SlotOrSkip,      Slots,     PerRow,       Padded, RankLocal,  Own,   Skip,     -1,  Live,   PagedGroup) \
  F(cp_slot_mapping,         SlotOrSkip,      Slots,     PerGathered,  Padded, RankLocal,  All,   Sequence, -1,  Live,   PagedGroup) \
  F(query_start_loc,         RowOffset,       Rows,      Cumulative,   Padded, Global,     Own,   Sequence,  0,  Live,   Plan)       \
  F(seq_lens,                TokenCount,      Tokens,    PerSequence,  Padded, Global,     Own,   Sequence,  0,  Live,   Plan)       \
  F(computed_lens,           TokenCount,      Tokens,    PerSequence,  Padded, Global,     Own,   Sequence,  0,  Live,   Plan)       \
  F(prompt_lens,             TokenCount,      Tokens,    PerSequence,  Padded, Global,     All,   Sequence,  0,  Live,   Plan)       \
  F(state_read_slot,         StateSlot,       States,    PerSequence,  Padded, RankLocal,  All,   Value,     0,  Live,   Plan)       \
  F(has_initial_state,       int32_t,         None,      PerSequence,  Padded, Global,     Own,   Value,     0,  Live,   Plan)       \
  F(penalty_slots,           PenaltySlot,     None,      PerSequence,  Padded, RankLocal,  All,   Value,    -1,  Live,   Plan)       \
  F(cp_segments,             CpSegments,      Tokens,    PerSequence,  Padded, RankLocal,  Own,   Sequence,  0,  Live,   Plan)       \
  F(cp_spans,                CpSegment,       Tokens,    PerSequence,  Padded, Global,     All,   Sequence,  0,  Live,   Plan)       \
  F(table_rows,              TableRow,        Rows,      PerSequence,  Padded, RankLocal,  All,   Value,     0,  Live,   PagedGroup) \
  F(table_digests,           uint64_t,        None,      PerSequence,  Padded, RankLocal,  Own,   Sequence,  0,  Live,   PagedGroup) \
  F(logits_rows,             RowIndex,        Rows,      PerLogitsRow, Padded, Global,     All,   Value,    -1,  Live,   Plan)       \
  F(cp_logits_rows,          RowIndex,        Rows,      PerLogitsRow, Padded, Global,     All,   Value,    -1,  Live,   Plan)       \
  F(temperature,             float,           None,      PerLogitsRow, Padded, Global,     All,   Value,     0,  Live,   Plan)       \
  F(top_k,                   int32_t,         Tokens,    PerLogitsRow, Padded, Global,     All,   Value,     0,  Live,   Plan)       \
  F(top_p,                   float,           None,      PerLogitsRow, Padded, Global,     All,   Value,     1,  Live,   Plan)       \
  F(min_p,                   float,           None,      PerLogitsRow, Padded, Global,     All,   Value,     0,  Live,   Plan)       \
  F(repetition_penalty,      float,           None,      PerLogitsRow, Padded, Global,     All,   Value,     1,  Live,   Plan)       \
  F(presence_penalty,        float,           None,      PerLogitsRow, Padded, Global,     All,   Value,     0,  Live,   Plan)       \
  F(frequency_penalty,       float,           None,      PerLogitsRow, Padded, Global,     All,   Value,     0,  Live,   Plan)       \
  F(seed,                    uint64_t,        None,      PerLogitsRow, Padded, Global,     All,   Value,     0,  Live,   Plan)       \
  F(sample_positions,        Position,        Tokens,    PerLogitsRow, Padded, Global,     All,   Value,     0,  Live,   Plan)       \
  F(sample_penalty_slots,    PenaltySlot,     None,      PerLogitsRow, Padded, RankLocal,  All,   Value,    -1,  Live,   Plan)       \
  F(mask_slots,              int32_t,         None,      PerLogitsRow, Padded, RankLocal,  All,   Value,    -1,  Live,   Plan)       \
  F(logprobs,                int32_t,         Tokens,    PerLogitsRow, Padded, Global,     All,   Value,    -1,  Live,   Plan)       \
  F(table_edits,             TableEdit,       Pages,     Edits,        Live,   RankLocal,  All,   None,      0,  Live,   PagedGroup) \
  F(copies,                  PageCopy,        Pages,     Copies,       Live,   RankLocal,  All,   None,      0,  Live,   AnyGroup)   \
  F(dp_row_counts,           PaddedRows,      Rows,      PerRank,      Padded, Global,     All,   None,      0,  Live,   Plan)       \
  F(epoch,                   Epoch,           None,      Scalar,       Live,   Global,     All,   None,      0,  Live,   Plan)       \
  F(source_epoch,            Epoch,           None,      Scalar,       Live,   Global,     Own,   None,      0,  Live,   Plan)       \
  F(num_rows,                LiveRows,        Rows,      Scalar,       Live,   Global,     Own,   None,      0,  Live,   Plan)       \
  F(num_seqs,                LiveSeqs,        Sequences, Scalar,       Live,   Global,     All,   None,      0,  Live,   Plan)       \
  F(num_logits_rows,         LiveRows,        Rows,      Scalar,       Live,   Global,     All,   None,      0,  Live,   Plan)       \
  F(max_seq_len,             TokenCount,      Tokens,    Scalar,       Padded, Global,     Own,   None,      0,  Live,   Plan)       \
  F(num_table_edits,         int32_t,         Pages,     Scalar,       Live,   RankLocal,  All,   None,      0,  Live,   PagedGroup) \
  F(num_copies,              int32_t,         Pages,     Scalar,       Live,   RankLocal,  All,   None,      0,  Live,   AnyGroup)   \
  F(phase,                   int32_t,         None,      Scalar,       Live,   Global,     All,   None,      0,  Frozen, Plan)       \
  F(num_rows_padded,         PaddedRows,      Rows,      Scalar,       Padded, Global,     All,   None,      0,  Frozen, Plan)       \
  F(num_seqs_padded,         PaddedSeqs,      Sequences, Scalar,       Padded, Global,     All,   None,      0,  Frozen, Plan)       \
  F(num_logits_rows_padded,  PaddedRows,      Rows,      Scalar,       Padded, Global,     All,   None,      0,  Frozen, Plan)       \
  F(max_query_len,           RowCount,        Rows,      Scalar,       Padded, Global,     Own,   None,      0,  Frozen, Plan)       \
  F(uniform_query_len,       RowCount,        Rows,      Scalar,       Padded, Global,     Own,   None,      0,  Frozen, Plan)       \
  F(cp_ranks,                int32_t,         None,      Scalar,       Padded, Global,     All,   None,      0,  Frozen, Plan)       \
  F(cp_rank,                 int32_t,         None,      Scalar,       Padded, RankLocal,  Own,   None,      0,  Frozen, Plan)
// clang-format on

enum class FieldId : uint8_t {
#define LS_FIELD_ID(name, ...) name,
  LS_PLAN_FIELDS(LS_FIELD_ID)
#undef LS_FIELD_ID
};

template <typename T>
constexpr Element element_of() {
  if constexpr (std::is_same_v<T, float>) return Element::kF32;
  if constexpr (std::is_same_v<T, uint64_t> || std::is_same_v<T, Epoch>) return Element::kU64;
  if constexpr (std::is_same_v<T, SlotOrSkip>) return Element::kI64;
  if constexpr (std::is_same_v<T, PageCopy> || std::is_same_v<T, CpSegment>) return Element::kI32x2;
  if constexpr (std::is_same_v<T, TableEdit>) return Element::kI32x3;
  if constexpr (std::is_same_v<T, CpSegments>) return Element::kI32x4;
  return Element::kI32;
}

// One line of the table.
struct FieldInfo {
  FieldId id;
  std::string_view name;
  std::string_view type;  // the C++ type of an element, as printed in docs and messages
  Element element;
  int32_t element_bytes;
  Unit unit;
  Form form;
  Extent extent;
  Space space;
  Share share;
  Pad pad;
  int32_t pad_value;
  Life life;
  Scope scope;
};

inline constexpr auto kFields = std::to_array<FieldInfo>({
#define LS_FIELD_INFO(name, type, unit, form, extent, space, share, pad, value, life, scope) \
  {FieldId::name,   #name,           #type,         element_of<type>(),                      \
   sizeof(type),    Unit::k##unit,   Form::k##form, Extent::k##extent,                       \
   Space::k##space, Share::k##share, Pad::k##pad,   value,                                   \
   Life::k##life,   Scope::k##scope},
    LS_PLAN_FIELDS(LS_FIELD_INFO)
#undef LS_FIELD_INFO
});
inline constexpr int kNumFields = static_cast<int>(kFields.size());

constexpr const FieldInfo& info_of(FieldId id) { return kFields[static_cast<size_t>(id)]; }
constexpr std::string_view name_of(FieldId id) { return info_of(id).name; }

// A field with the type of its elements: plan.get(field::positions) is a span of Position.
template <typename T>
struct Field {
  using Type = T;
  FieldId id;
};

namespace field {
#define LS_FIELD_HANDLE(name, type, ...) inline constexpr Field<type> name{FieldId::name};
LS_PLAN_FIELDS(LS_FIELD_HANDLE)
#undef LS_FIELD_HANDLE
}  // namespace field

std::string_view name_of(Unit unit);
std::string_view name_of(Form form);
std::string_view name_of(Extent extent);
std::string_view name_of(Space space);
std::string_view name_of(Share share);
std::string_view name_of(Scope scope);
std::string_view name_of(Life life);
std::string_view name_of(Phase phase);

// One element of a field, from its bytes, as a person reads it: "26", "(3, 0, 17)", "0.7".
std::string element_text(const FieldInfo& info, const std::byte* element);

// What a field says, in one phrase.
std::string_view meaning_of(FieldId id);

// The table as a page of Markdown: docs/fields.md is this text.
std::string field_table_text();

}  // namespace lockstep
