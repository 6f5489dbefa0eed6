#include "plan/step_plan.h"

#include <algorithm>

#include "base/math.h"

namespace lockstep {
namespace {

int64_t element_count(const StepLimits& limits, const Bucket& bucket, Form form) {
  switch (form) {
    case Form::kScalar: return 1;
    case Form::kPerRow: return bucket.rows.get();
    case Form::kPerSequence: return bucket.seqs.get();
    case Form::kCumulative: return int64_t{bucket.seqs.get()} + 1;
    case Form::kPerLogitsRow: return bucket.logits_rows.get();
    case Form::kEdits: return limits.max_edits;
    case Form::kCopies: return limits.max_copies;
    case Form::kPerRank: return limits.dp_ranks;
    case Form::kPerGathered: return limits.cp_ranks > 1 ? int64_t{limits.cp_ranks} * bucket.rows.get() : 0;
  }
  return 0;
}

// Elements are read in place by SIMD kernels and, on a GPU, by 16-byte loads.

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

int64_t image_bytes(const StepLimits& limits, const Bucket& bucket) {
  int64_t bytes = 0;
  for (const FieldInfo& info : kFields) {
    for (int32_t g = 0; g < kMaxGroups; ++g) {
      if (!group_has_field(limits, info, GroupId(g))) continue;
      bytes +=
          round_up(element_count(limits, bucket, info.form) * info.element_bytes, ImageLayout::kAlignment);
    }
  }
  return bytes;
}

ImageLayout::Key::Key(const StepLimits& limits, const Bucket& wanted)
    : bucket(wanted),
      max_edits(limits.max_edits),
      max_copies(limits.max_copies),
      dp_ranks(limits.dp_ranks),
      cp_ranks(limits.cp_ranks),
      num_groups(limits.num_groups) {
  for (int32_t g = 0; g < num_groups; ++g)
    paged |= static_cast<uint32_t>(limits.group(GroupId(g)).kind == GroupKind::kPaged) << g;
}

ImageLayout::ImageLayout(const StepLimits& limits, const Bucket& bucket)
    : key_(limits, bucket), num_groups_(limits.num_groups) {
  for (const FieldInfo& info : kFields) {
    for (int32_t g = 0; g < kMaxGroups; ++g) {
      if (!group_has_field(limits, info, GroupId(g))) continue;
      const int64_t count = element_count(limits, bucket, info.form);
      places_[static_cast<size_t>(info.id)][static_cast<size_t>(g)] = {
          .offset = bytes_,
          .count = static_cast<int32_t>(count),
          .index = static_cast<int32_t>(fields_.size())};
      fields_.push_back({info.id, GroupId(g), bytes_, count * info.element_bytes});
      bytes_ += static_cast<int32_t>(round_up(count * info.element_bytes, ImageLayout::kAlignment));
    }
  }
}

void StepPlan::reset(const StepLimits& limits, const Bucket& bucket) {
  if (!layout_.is_for(limits, bucket)) layout_ = ImageLayout(limits, bucket);
  bucket_ = bucket;
  image_.assign(static_cast<size_t>(layout_.bytes()), std::byte{0});
  digest_ = 0;
  field_digests_.assign(layout_.fields().size(), 0);
}

Status StepPlan::load(const StepLimits& limits, const Bucket& bucket, std::span<const std::byte> image) {
  const int64_t bytes = lockstep::image_bytes(limits, bucket);
  if (bytes != static_cast<int64_t>(image.size())) {
    return error(Code::kInvalidArgument, "plan: an image of ", image.size(), " bytes for ", bucket.rows,
                 " rows, ", bucket.seqs, " sequences and ", bucket.logits_rows, " logits rows; expected ",
                 bytes);
  }
  reset(limits, bucket);
  std::copy(image.begin(), image.end(), image_.begin());
  freeze();
  return {};
}

void StepPlan::freeze() {
  digest_ = digest_bytes(image_.data(), image_.size());
  Digest* digest = field_digests_.data();
  for (const ImageLayout::FieldPlace& place : layout_.fields())
    *digest++ = digest_bytes(image_.data() + place.offset, static_cast<size_t>(place.bytes));
}

}  // namespace lockstep
