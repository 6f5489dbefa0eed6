#include "device/staging.h"

#include <algorithm>
#include <utility>

namespace lockstep {

StagingLease::StagingLease(StagingLease&& other) noexcept
    : ring_(std::exchange(other.ring_, nullptr)), slot_(other.slot_), bytes_(other.bytes_) {}

StagingLease::~StagingLease() {
  if (ring_ != nullptr) ring_->slots_[static_cast<size_t>(slot_)].state = StagingRing::State::kFree;
}

StagingRing::StagingRing(int32_t slots, int64_t bytes, Device* device)
    : slot_bytes_(bytes),
      device_(device),
      pinned_(device == nullptr ? Result<void*>(nullptr) : device->allocate_pinned(slots * bytes)),
      memory_(device == nullptr ? static_cast<size_t>(slots * bytes) : 0),
      slots_(static_cast<size_t>(slots)) {}

StagingRing::~StagingRing() {
  if (device_ != nullptr && pinned_.ok()) device_->release_pinned(*pinned_);
}

std::span<std::byte> StagingRing::bytes_of(int32_t slot, int64_t bytes) {
  std::byte* memory = device_ == nullptr ? memory_.data() : static_cast<std::byte*>(*pinned_);
  return {memory + slot * slot_bytes_, static_cast<size_t>(bytes)};
}

Result<StagingLease> StagingRing::lease(Stream& stream, int64_t bytes) {
  if (bytes > slot_bytes_) {
    return error(Code::kInternal, "staging: ", bytes, " bytes asked; expected at most ", slot_bytes_,
                 ", the size of a slot");
  }
  if (!pinned_.ok()) return pinned_.status();
  const auto is = [](State state) { return [state](const Slot& slot) { return slot.state == state; }; };
  auto found = std::find_if(slots_.begin(), slots_.end(), is(State::kFree));
  if (found == slots_.end()) {
    found = std::min_element(slots_.begin(), slots_.end(), [](const Slot& a, const Slot& b) {
      if (a.state != b.state) return a.state == State::kInFlight;
      return a.read.sequence < b.read.sequence;
    });
    if (found->state != State::kInFlight) {
      return error(Code::kInternal, "staging: all ", slots_.size(),
                   " slots are held and no copy is under way; expected each lease to be given to a copy");
    }
    stream.wait(found->read);
  }
  found->state = State::kHeld;
  const auto slot = static_cast<int32_t>(found - slots_.begin());
  return StagingLease(this, slot, bytes_of(slot, bytes));
}

int32_t StagingRing::in_flight() const {
  return static_cast<int32_t>(std::count_if(slots_.begin(), slots_.end(),
                                            [](const Slot& slot) { return slot.state == State::kInFlight; }));
}

}  // namespace lockstep
