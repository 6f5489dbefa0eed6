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

// Shapes `out`, all of whose dimensions are zero, as a view of `count` entries of such an element at `data`.
inline void view_entries(ElementShape element, void* data, int64_t count, TensorView& out) {
  out.data = data;
  out.dtype = element.dtype;
  out.shape.rank = element.words == 1 ? 1 : 2;
  out.shape.dims[0] = count;
  out.shape.dims[1] = element.words == 1 ? 0 : element.words;
  out.strides[0] = element.words;
  out.strides[1] = element.words == 1 ? 0 : 1;
}

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

  // The field's elements as kernels read them: [count] of its element type, [count, 2], [count, 3] or
  // [count, 4] for entries of several integers. Precondition: the group has the field.
  TensorView view(const ImageLayout& layout, FieldId id, GroupId group) const;
  // Where the bytes at `offset` of every plan lie.
  void* at(int64_t offset) const { return static_cast<char*>(bytes_.data) + offset; }

 private:
  explicit DeviceImage(const TensorView& bytes) : bytes_(bytes) {}
  TensorView bytes_;
};

}  // namespace lockstep
