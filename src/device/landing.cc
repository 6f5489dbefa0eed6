#include "device/landing.h"

#include <cstring>

namespace lockstep {

Result<Landing> Landing::create(int64_t bytes, Device* device) {
  Landing landing;
  if (device == nullptr) {
    landing.memory_.resize(static_cast<size_t>(bytes));
    landing.data_ = landing.memory_.data();
    return landing;
  }
  landing.data_ = static_cast<std::byte*>(LS_TRY(device->allocate_pinned(bytes)));
  landing.device_ = device;
  std::memset(landing.data_, 0, static_cast<size_t>(bytes));
  return landing;
}

Landing::~Landing() {
  if (device_ != nullptr) device_->release_pinned(data_);
}

Landing::Landing(Landing&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      device_(std::exchange(other.device_, nullptr)),
      memory_(std::move(other.memory_)) {}

Landing& Landing::operator=(Landing&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(device_, other.device_);
  std::swap(memory_, other.memory_);
  return *this;
}

}  // namespace lockstep
