// P10: capacities and the places of fields. P11: what pad entries hold.
#include <algorithm>
#include <bit>
#include <cstring>

#include "base/math.h"
#include "plan/validate.h"

namespace lockstep {
namespace {

// The elements of a field, from the table's own words.
int64_t elements_of(const FieldInfo& info, const Bucket& bucket, const StepLimits& limits) {
  switch (info.form) {
    case Form::kScalar: return 1;
    case Form::kPerRow: return bucket.rows.get();
    case Form::kPerSequence: return bucket.seqs.get();
    case Form::kCumulative: return int64_t{bucket.seqs.get()} + 1;
    case Form::kPerLogitsRow: return bucket.logits_rows.get();
    case Form::kEdits: return limits.max_edits;
    case Form::kCopies: return limits.max_copies;
    case Form::kPerRank: return limits.dp_ranks;
    case Form::kPerGathered: return limits.cp_ranks == 1 ? 0 : int64_t{bucket.rows.get()} * limits.cp_ranks;
  }
  return 0;
}

// How many of a field's elements are live; the rest is padding or tail.
int32_t live_elements(const StepPlan& plan, const FieldInfo& info, GroupId group) {
  switch (info.form) {
    case Form::kPerRow: return plan.scalar(field::num_rows).get();
    case Form::kPerSequence: return plan.scalar(field::num_seqs).get();
    case Form::kPerLogitsRow: return plan.scalar(field::num_logits_rows).get();
    case Form::kEdits: return plan.scalar(field::num_table_edits, group);
    case Form::kCopies: return plan.scalar(field::num_copies, group);
    case Form::kScalar:
    case Form::kCumulative:
    case Form::kPerRank:
    case Form::kPerGathered: break;
  }
  return plan.layout().place(info.id, group).count;
}

// Entries are zero from `from` on, or where the first other one is.
int32_t first_nonzero(std::span<const std::byte> bytes, int32_t from, int32_t element_bytes) {
  const auto begin = bytes.begin() + int64_t{from} * element_bytes;
  const auto found = std::find_if(begin, bytes.end(), [](std::byte byte) { return byte != std::byte{0}; });
  return static_cast<int32_t>((found - bytes.begin()) / element_bytes);
}

template <typename T>
T element_at(std::span<const std::byte> bytes, int32_t index) {
  T value;
  std::memcpy(&value, bytes.data() + static_cast<size_t>(index) * sizeof(T), sizeof(T));
  return value;
}

// The first entry from `from` on whose bits are not the pad value's, or the count.
template <typename T>
int32_t first_other(std::span<const std::byte> bytes, int32_t from, T pad) {
  const auto count = static_cast<int32_t>(bytes.size() / sizeof(T));
  for (int32_t i = from; i < count; ++i) {
    const T value = element_at<T>(bytes, i);
    if (std::memcmp(&value, &pad, sizeof(T)) != 0) return i;
  }
  return count;
}

template <typename T>
FixedText text_at(std::span<const std::byte> bytes, int32_t index) {
  return FixedText(element_at<T>(bytes, index));
}

}  // namespace

bool PlanValidator::check_shape(const StepPlan& plan) {
  struct Side {
    FieldId field;
    int32_t value;
    int32_t limit;
  };
  const Bucket& bucket = plan.bucket();
  for (const Side& side :
       {Side{FieldId::num_rows_padded, bucket.rows.get(), limits_.max_rows},
        Side{FieldId::num_seqs_padded, bucket.seqs.get(), limits_.max_seqs},
        Side{FieldId::num_logits_rows_padded, bucket.logits_rows.get(), limits_.max_logits_rows}}) {
    if (side.value > side.limit) {
      return refuse({"P10", side.field}, FixedText("at most ", side.limit, " as the limits allow"),
                    FixedText(side.value));
    }
  }
  return check_layout(plan) && check_counts(plan);
}

bool PlanValidator::check_layout(const StepPlan& plan) {
  int64_t offset = 0;
  for (const FieldInfo& info : kFields) {
    const int32_t groups = info.scope == Scope::kPlan ? 1 : limits_.num_groups;
    for (int32_t g = 0; g < groups; ++g) {
      const GroupId group(g);
      if (info.scope == Scope::kPagedGroup && !paged(group)) continue;
      const int64_t count = elements_of(info, plan.bucket(), limits_);
      const ImageLayout::Place& place = plan.layout().place(info.id, group);
      if (place.offset != offset || place.count != count) {
        return refuse({"P10", info.id, 0, group}, FixedText("an array of ", count, " at byte ", offset),
                      FixedText("an array of ", place.count, " at byte ", place.offset));
      }
      const int64_t end = offset + count * info.element_bytes;
      if (end > static_cast<int64_t>(plan.image().size())) {
        return refuse({"P10", info.id, 0, group}, FixedText("an array of ", count, " up to byte ", end),
                      FixedText("in an image of ", plan.image().size(), " bytes"));
      }
      offset = round_up(end, int64_t{16});
    }
  }
  return true;
}

bool PlanValidator::check_counts(const StepPlan& plan) {
  struct Count {
    FieldId field;
    GroupId group;
    int32_t value;
    int32_t most;
  };
  const auto is = [this](FieldId id, int32_t value, int32_t right) {
    return value == right || refuse({"P10", id}, FixedText(right, " as the bucket has"), FixedText(value));
  };
  const auto within = [this](const Count& count) {
    return (count.value >= 0 && count.value <= count.most) ||
           refuse({"P10", count.field, 0, count.group}, FixedText("0..", count.most), FixedText(count.value));
  };
  const int32_t rows = plan.bucket().rows.get();
  const int32_t seqs = plan.bucket().seqs.get();
  const int32_t logits_rows = plan.bucket().logits_rows.get();
  if (!is(FieldId::num_rows_padded, plan.scalar(field::num_rows_padded).get(), rows) ||
      !is(FieldId::num_seqs_padded, plan.scalar(field::num_seqs_padded).get(), seqs) ||
      !is(FieldId::num_logits_rows_padded, plan.scalar(field::num_logits_rows_padded).get(), logits_rows))
    return false;
  if (!within({FieldId::num_rows, GroupId(0), plan.scalar(field::num_rows).get(), rows}) ||
      !within({FieldId::num_seqs, GroupId(0), plan.scalar(field::num_seqs).get(), seqs}) ||
      !within({FieldId::num_logits_rows, GroupId(0), plan.scalar(field::num_logits_rows).get(), logits_rows}))
    return false;
  for (int32_t g = 0; g < limits_.num_groups; ++g) {
    const GroupId group(g);
    if (paged(group) && !within({FieldId::num_table_edits, group, plan.scalar(field::num_table_edits, group),
                                 limits_.max_edits}))
      return false;
    if (!within({FieldId::num_copies, group, plan.scalar(field::num_copies, group), limits_.max_copies}))
      return false;
  }
  return true;
}

bool PlanValidator::check_pads(const StepPlan& plan) {
  for (const FieldInfo& info : kFields) {
    const int32_t groups = info.scope == Scope::kPlan ? 1 : limits_.num_groups;
    for (int32_t g = 0; g < groups; ++g) {
      const bool present = info.scope != Scope::kPagedGroup || paged(GroupId(g));
      if (present && !check_pad_entries(plan, info, GroupId(g))) return false;
    }
  }
  return true;
}

bool PlanValidator::check_pad_entries(const StepPlan& plan, const FieldInfo& info, GroupId group) {
  if (info.pad == Pad::kSequence) return true;
  const ImageLayout::Place& place = plan.layout().place(info.id, group);
  const int32_t live = live_elements(plan, info, group);
  if (live >= place.count) return true;
  const std::span<const std::byte> bytes =
      plan.image().subspan(static_cast<size_t>(place.offset),
                           static_cast<size_t>(place.count) * static_cast<size_t>(info.element_bytes));
  if (info.pad == Pad::kNone) {
    const int32_t at = first_nonzero(bytes, live, info.element_bytes);
    return at == place.count ||
           refuse({"P11", info.id, at, group}, FixedText("zero past the ", live, " live entries"),
                  FixedText("not zero"));
  }
  const auto compare = [&]<typename T>(T pad) {
    const int32_t at = first_other(bytes, live, pad);
    return at == place.count || refuse({"P11", info.id, at, group},
                                       info.pad == Pad::kSkip ? FixedText("SKIP in a pad entry")
                                                              : FixedText(pad, " in a pad entry"),
                                       text_at<T>(bytes, at));
  };
  switch (info.element) {
    case Element::kF32: return compare(static_cast<float>(info.pad_value));
    case Element::kI64: return compare(int64_t{info.pad_value});
    case Element::kU64: return compare(static_cast<uint64_t>(info.pad_value));
    case Element::kI32:
    case Element::kI32x2:
    case Element::kI32x3:
    case Element::kI32x4: break;
  }
  return compare(info.pad_value);
}

}  // namespace lockstep
