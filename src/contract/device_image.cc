#include "contract/device_image.h"

#include <cstring>

#include "plan/step_plan.h"

namespace lockstep {
namespace {

struct ElementShape {
  DType dtype = DType::kI32;
  int64_t words = 1;  // elements of dtype per entry
};

// How the bytes of one entry look to a kernel.
ElementShape element_shape(Element element) {
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

}  // namespace

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

void DeviceImage::view(const ImageLayout& layout, FieldId id, GroupId group, TensorView& out) const {
  const ImageLayout::Place& place = layout.place(id, group);
  LS_CHECK(place.offset >= 0, name_of(id), " of group ", group);
  const ElementShape element = element_shape(info_of(id).element);
  out.data = static_cast<char*>(bytes_.data) + place.offset;
  out.dtype = element.dtype;
  out.shape.rank = element.words == 1 ? 1 : 2;
  out.shape.dims[0] = place.count;
  out.shape.dims[1] = element.words == 1 ? 0 : element.words;
  out.strides[0] = element.words;
  out.strides[1] = element.words == 1 ? 0 : 1;
}

}  // namespace lockstep
