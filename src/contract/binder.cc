#include "contract/binder.h"

#include <algorithm>
#include <cstring>

#include "plan/step_plan.h"

namespace lockstep {

Status Binder::declared(const ConsumerSpec& consumer, FieldId id, Feed feed, GroupId group) const {
  const bool found = std::any_of(consumer.fields.begin(), consumer.fields.end(),
                                 [&](const FieldUse& use) { return use.field == id && use.feed == feed; });
  if (!found) {
    return error(Code::kInternal, "L1 ", consumer.name, ": reads ", name_of(id), " by ",
                 feed == Feed::kAddress ? "address" : "value", "; expected its spec to declare that");
  }
  const bool in_range = group.get() >= 0 && group.get() < kMaxGroups;
  if (!in_range || plan_.layout().place(id, group).offset < 0) {
    return error(Code::kInternal, "L1 ", consumer.name, ": reads ", name_of(id), " of group ", group,
                 "; expected a group that has this field");
  }
  return {};
}

Result<TensorView> Binder::address(const ConsumerSpec& consumer, FieldId id, GroupId group) const {
  LS_TRY(declared(consumer, id, Feed::kAddress, group));
  const TensorView view = image_.view(plan_.layout(), id, group);
  if (log_ != nullptr) {
    log_->push_back(
        {consumer.name, id, group, Feed::kAddress, plan_.layout().place(id, group).offset, view.elements()});
  }
  return view;
}

Status Binder::copy_value(const ConsumerSpec& consumer, FieldId id, GroupId group, void* out) const {
  LS_TRY(declared(consumer, id, Feed::kValue, group));
  const ImageLayout::Place& place = plan_.layout().place(id, group);
  const auto bytes = static_cast<size_t>(info_of(id).element_bytes);
  std::memcpy(out, plan_.image().data() + place.offset, bytes);
  if (log_ != nullptr) {
    int64_t value = 0;
    std::memcpy(&value, out, std::min(bytes, sizeof(value)));
    log_->push_back({consumer.name, id, group, Feed::kValue, place.offset, value});
  }
  return {};
}

}  // namespace lockstep
