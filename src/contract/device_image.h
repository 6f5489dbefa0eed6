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
  TensorView view(const ImageLayout& layout, FieldId id, GroupId group) const {
    TensorView out;
    view(layout, id, group, out);
    return out;
  }
  // The same, straight into `out`, whose unused dimensions are zero.
  void view(const ImageLayout& layout, FieldId id, GroupId group, TensorView& out) const;

 private:
  explicit DeviceImage(const TensorView& bytes) : bytes_(bytes) {}
  TensorView bytes_;
};

}  // namespace lockstep
