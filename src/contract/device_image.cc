#include "contract/device_image.h"

#include <cstring>

#include "plan/step_plan.h"

namespace lockstep {
Result<DeviceImage> DeviceImage::create(const StepLimits& limits, Arena& arena) {
  const ImageLayout largest(limits, {.rows = PaddedRows(limits.max_rows),
                                     .seqs = PaddedSeqs(limits.max_seqs),
                                     .logits_rows = PaddedRows(limits.max_logits_rows)});
  return DeviceImage(LS_TRY(arena.allocate("plan image", DType::kU8, {largest.bytes()})));
}

Status DeviceImage::refresh(const StepPlan& plan, Stream& stream, StagingRing& staging) {
  const std::span<const std::byte> image = plan.image();
  if (static_cast<int64_t>(image.size()) > bytes_.elements()) {
    return error(Code::kInternal, "plan ", plan.scalar(field::epoch), ": image of ", image.size(),
                 " bytes; expected at most ", bytes_.elements(), " as the limits give");
  }
  StagingLease lease = LS_TRY(staging.lease(stream, static_cast<int64_t>(image.size())));
  std::memcpy(lease.bytes().data(), image.data(), image.size());
  return stream.copy(bytes_.rows(0, static_cast<int64_t>(image.size())), std::move(lease));
}

FieldView DeviceImage::view(const ImageLayout& layout, FieldId id, GroupId group) const {
  const ImageLayout::Place& place = layout.place(id, group);
  LS_CHECK(place.offset >= 0, name_of(id), " of group ", group);
  return {.data = at(place.offset), .entries = place.count, .element = info_of(id).element};
}

}  // namespace lockstep
