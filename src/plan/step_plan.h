// StepPlan: everything one forward pass needs to know, decided on the host before any device work starts.
// Built once, validated, frozen, digested; read by everyone, changed by nobody. Every field of the field
// table lies in one packed image at offsets that the bucket fixes, so that refreshing the device is one copy.
#pragma once

#include <array>
#include <cstddef>
#include <iosfwd>
#include <span>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/digest.h"
#include "base/status.h"
#include "plan/fields.h"
#include "plan/limits.h"

namespace lockstep {

// Bytes of a bucket's image, in 64 bits: limits are checked with it before any layout is made.
int64_t image_bytes(const StepLimits& limits, const Bucket& bucket);

// Where each field lies in the image of one bucket.
class ImageLayout {
 public:
  static constexpr int64_t kAlignment = 16;  // bytes; every field begins at a multiple of it

  ImageLayout() = default;
  // Precondition: check_limits(limits), and the bucket is within them.
  ImageLayout(const StepLimits& limits, const Bucket& bucket);

  struct Place {
    int32_t offset = -1;  // bytes from the beginning of the image; -1: this group has no such field
    int32_t count = 0;    // elements, padding included
    int32_t index = -1;   // in fields()
  };
  const Place& place(FieldId id, GroupId group = GroupId(0)) const {
    return places_[static_cast<size_t>(id)][static_cast<size_t>(group.get())];
  }
  // A field of a group, and its bytes in the image.
  struct FieldPlace {
    FieldId field;
    GroupId group;
    int64_t offset = 0;
    int64_t bytes = 0;
  };
  // All of them: in the order of the field table, and of groups. The same for every bucket but for the bytes.
  std::span<const FieldPlace> fields() const { return fields_; }
  // Bytes behind a field up to the next one or to the end, less than kAlignment; zeros in every image.
  int64_t bytes_behind(size_t field) const {
    const int64_t next = field + 1 < fields_.size() ? fields_[field + 1].offset : bytes_;
    return next - fields_[field].offset - fields_[field].bytes;
  }
  int32_t bytes() const { return bytes_; }
  int32_t num_groups() const { return num_groups_; }
  // Whether these limits and this bucket lead to this layout.
  bool is_for(const StepLimits& limits, const Bucket& bucket) const { return key_ == Key(limits, bucket); }

 private:
  // Everything that a layout follows from.
  struct Key {
    Key() = default;
    Key(const StepLimits& limits, const Bucket& bucket);
    bool operator==(const Key&) const = default;
    Bucket bucket;
    int32_t max_edits = -1;
    int32_t max_copies = -1;
    int32_t dp_ranks = -1;
    int32_t cp_ranks = -1;
    int32_t num_groups = -1;
    uint32_t paged = 0;  // bit g: group g is paged
  };

  Key key_;
  std::array<std::array<Place, kMaxGroups>, kNumFields> places_{};
  std::vector<FieldPlace> fields_;
  int32_t bytes_ = 0;
  int32_t num_groups_ = 0;
};

// Whether a group carries a field; plan-wide fields are group 0's, whatever groups there are.
bool group_has_field(const StepLimits& limits, const FieldInfo& info, GroupId group);

class StepPlan {
 public:
  // Elements of a field, padding included; none where the group has no such field. For lists, live entries
  // stand in front.
  template <typename T>
  std::span<const T> get(Field<T> f, GroupId group = GroupId(0)) const {
    const ImageLayout::Place& place = layout_.place(f.id, group);
    if (place.offset < 0) return {};
    return {reinterpret_cast<const T*>(image_.data() + place.offset), static_cast<size_t>(place.count)};
  }
  // The value of a scalar field.
  template <typename T>
  T scalar(Field<T> f, GroupId group = GroupId(0)) const {
    return get(f, group).front();
  }

  const Bucket& bucket() const { return bucket_; }
  const ImageLayout& layout() const { return layout_; }
  std::span<const std::byte> image() const { return {image_.data(), image_.size()}; }
  // Digest of the whole image and of each of layout().fields(), as they were when the plan was frozen.
  Digest digest() const { return digest_; }
  std::span<const Digest> field_digests() const { return field_digests_; }
  // Of one field; 0 where the group has no such field.
  Digest field_digest(FieldId id, GroupId group = GroupId(0)) const {
    const int32_t index = layout_.place(id, group).index;
    return index < 0 ? 0 : field_digests_[static_cast<size_t>(index)];
  }

  // For the builder, and for tests that break a plan on purpose: writable elements.
  template <typename T>
  std::span<T> edit(Field<T> f, GroupId group = GroupId(0)) {
    const std::span<const T> values = get(f, group);
    return {const_cast<T*>(values.data()), values.size()};
  }
  // Empties the plan and lays it out for a bucket; all bytes zero. Reuses memory, and the layout of the plan
  // before where it is the same.
  void reset(const StepLimits& limits, const Bucket& bucket);
  // Becomes the plan that has this image, frozen: one that came from elsewhere. Errors: kInvalidArgument when
  // the image has another size than limits and bucket give it; the plan is as it was then.
  // Precondition: check_limits(limits), and the bucket is within them.
  Status load(const StepLimits& limits, const Bucket& bucket, std::span<const std::byte> image);
  // Computes the digests. Nothing may be edited afterwards, but by a test that means harm.
  void freeze();

 private:
  Bucket bucket_;
  ImageLayout layout_;
  std::vector<std::byte> image_;
  Digest digest_ = 0;
  std::vector<Digest> field_digests_;
};

// What comes back from a step: one entry per live logits row, in the plan's order.
struct StepResult {
  Epoch epoch;
  std::vector<TokenId> tokens;        // -1: the row was not finite
  std::vector<float> token_logprobs;  // of the drawn token, from raw logits
  std::vector<int32_t> non_finite;    // NaN and infinite logits of the row
  std::vector<TokenId> top_tokens;    // [rows, kMaxTopLogprobs]; -1 past what was asked
  std::vector<float> top_logprobs;    // [rows, kMaxTopLogprobs]
};

inline constexpr int kMaxTopLogprobs = 20;

// The plan as a person reads it: geometry, a line per sequence, a line per logits row, edits and copies.
// Prints broken plans too: it trusts no field to be in range.
void print_plan(const StepPlan& plan, const StepLimits& limits, std::ostream& out);

}  // namespace lockstep
