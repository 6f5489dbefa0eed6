#include "plan/step_plan.h"

#include <algorithm>
#include <cstring>

#include "base/math.h"

namespace lockstep {
namespace {

int32_t element_count(const StepLimits& limits, const Bucket& bucket, Form form) {
  switch (form) {
    case Form::kScalar: return 1;
    case Form::kPerRow: return bucket.rows.get();
    case Form::kPerSequence: return bucket.seqs.get();
    case Form::kCumulative: return bucket.seqs.get() + 1;
    case Form::kPerLogitsRow: return bucket.logits_rows.get();
    case Form::kEdits: return limits.max_edits;
    case Form::kCopies: return limits.max_copies;
    case Form::kPerRank: return limits.dp_ranks;
  }
  return 0;
}

// Elements are read in place by SIMD kernels and, on a GPU, by 16-byte loads.
constexpr int32_t kFieldAlignment = 16;

}  // namespace

bool group_has_field(const StepLimits& limits, const FieldInfo& info, GroupId group) {
  switch (info.scope) {
    case Scope::kPlan: return group.get() == 0;
    case Scope::kAnyGroup: return group.get() < limits.num_groups;
    case Scope::kPagedGroup:
      return group.get() < limits.num_groups && limits.group(group).kind == GroupKind::kPaged;
  }
  return false;
}

ImageLayout::ImageLayout(const StepLimits& limits, const Bucket& bucket) : num_groups_(limits.num_groups) {
  for (const FieldInfo& info : kFields) {
    for (int32_t g = 0; g < kMaxGroups; ++g) {
      if (!group_has_field(limits, info, GroupId(g))) continue;
      Place& place = places_[static_cast<size_t>(info.id)][static_cast<size_t>(g)];
      place = {.offset = bytes_, .count = element_count(limits, bucket, info.form)};
      bytes_ = round_up(bytes_ + place.count * info.element_bytes, kFieldAlignment);
    }
  }
}

void StepPlan::reset(const StepLimits& limits, const Bucket& bucket) {
  if (bucket_ != bucket || layout_.bytes() == 0) layout_ = ImageLayout(limits, bucket);
  bucket_ = bucket;
  image_.assign(static_cast<size_t>(layout_.bytes()), std::byte{0});
  digest_ = 0;
}

void StepPlan::freeze() { digest_ = digest_bytes(image_.data(), image_.size()); }

Digest StepPlan::field_digest(FieldId id, GroupId group) const {
  const ImageLayout::Place& place = layout_.place(id, group);
  if (place.offset < 0) return 0;
  return digest_bytes(image_.data() + place.offset,
                      static_cast<size_t>(place.count) * static_cast<size_t>(info_of(id).element_bytes));
}

std::string_view name_of(Unit unit) {
  switch (unit) {
    case Unit::kRows: return "rows";
    case Unit::kTokens: return "tokens";
    case Unit::kPages: return "pages";
    case Unit::kSlots: return "slots";
    case Unit::kStates: return "states";
    case Unit::kSequences: return "sequences";
    case Unit::kBytes: return "bytes";
    case Unit::kNone: return "none";
  }
  return "unknown";
}

std::string_view name_of(Form form) {
  switch (form) {
    case Form::kScalar: return "scalar";
    case Form::kPerRow: return "per row";
    case Form::kPerSequence: return "per sequence";
    case Form::kCumulative: return "cumulative";
    case Form::kPerLogitsRow: return "per logits row";
    case Form::kEdits: return "list of edits";
    case Form::kCopies: return "list of copies";
    case Form::kPerRank: return "per rank";
  }
  return "unknown";
}

std::string_view name_of(Phase phase) {
  switch (phase) {
    case Phase::kIdle: return "idle";
    case Phase::kDecode: return "decode";
    case Phase::kPrefill: return "prefill";
    case Phase::kMixed: return "mixed";
  }
  return "unknown";
}

}  // namespace lockstep
