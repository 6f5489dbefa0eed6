// DeviceImage: the plan as the device sees it. One buffer at a fixed address, refreshed by one copy per step,
// laid out by the plan's bucket.
#pragma once

#include "base/status.h"
#include "device/arena.h"
#include "device/staging.h"
#include "plan/fields.h"
#include "plan/limits.h"

namespace lockstep {

class StepPlan;
class ImageLayout;

// How the bytes of one entry look to a kernel.
struct ElementShape {
  DType dtype = DType::kI32;
  int64_t words = 1;  // elements of dtype per entry
};
constexpr ElementShape element_shape(Element element) {
  switch (element) {
    case Element::kI32: return {DType::kI32, 1};
    case Element::kI64: return {DType::kI64, 1};
    case Element::kU64: return {DType::kU64, 1};
    case Element::kF32: return {DType::kF32, 1};
    case Element::kI32x2: return {DType::kI32, 2};
    case Element::kI32x3: return {DType::kI32, 3};
    case Element::kI32x4: return {DType::kI32, 4};
  }
  return {};
}

// A field on the device as a launch keeps it, in the 16 bytes that it takes; kernels get it as a tensor.
struct FieldView {
  void* data = nullptr;
  int32_t entries = 0;
  Element element = Element::kI32;

  // [entries] of the element's type; [entries, 2], [entries, 3] or [entries, 4] for entries of several
  // integers.
  TensorView tensor() const {
    const ElementShape shape = element_shape(element);
    return shape.words == 1 ? dense_view(data, shape.dtype, {entries})
                            : dense_view(data, shape.dtype, {entries, shape.words});
  }
  operator TensorView() const { return tensor(); }
};

// Thread: one owner. The view of a field stays valid, and stays at its address, for every plan of one bucket.
class DeviceImage {
 public:
  // Takes room for the largest plan of `limits` from `arena`.
  static Result<DeviceImage> create(const StepLimits& limits, Arena& arena);

  // Enqueues the one copy of a step: the plan's image, by way of a staging slot that nobody refills before
  // the device has read it (L5).
  Status refresh(const StepPlan& plan, Stream& stream, StagingRing& staging);

  // The device's bytes that hold plans, whatever their bucket.
  const TensorView& bytes() const { return bytes_; }

  // Precondition: the group has the field.
  FieldView view(const ImageLayout& layout, FieldId id, GroupId group) const;
  // Where the bytes at `offset` of every plan lie.
  void* at(int64_t offset) const { return static_cast<char*>(bytes_.data) + offset; }

 private:
  explicit DeviceImage(const TensorView& bytes) : bytes_(bytes) {}
  TensorView bytes_;
};

}  // namespace lockstep
