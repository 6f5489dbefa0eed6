// DeviceImage: the plan as the device sees it. One buffer at a fixed address, refreshed by one copy per step,
// laid out by the plan's bucket.
#pragma once

#include "base/status.h"
#include "device/arena.h"
#include "plan/fields.h"
#include "plan/limits.h"

namespace lockstep {

class StepPlan;
class ImageLayout;

// Thread: one owner. The view of a field stays valid, and stays at its address, for every plan of one bucket.
class DeviceImage {
 public:
  // Takes room for the largest plan of `limits` from `arena`.
  static Result<DeviceImage> create(const StepLimits& limits, Arena& arena);

  // Copies the plan's image to the device. Cost: one copy of the image's bytes.
  Status refresh(const StepPlan& plan);

  // The field's elements as kernels read them: [count] of its element type, [count, 2], [count, 3] or
  // [count, 4] for entries of several integers. Precondition: the group has the field.
  TensorView view(const ImageLayout& layout, FieldId id, GroupId group) const;

 private:
  explicit DeviceImage(const TensorView& bytes) : bytes_(bytes) {}
  TensorView bytes_;
};

}  // namespace lockstep
