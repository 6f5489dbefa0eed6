// Landing: host memory that downloads write to. Without a device it is memory of this process; a device's is
// pinned, as a download to any other makes the host wait for it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "base/status.h"
#include "device/device.h"

namespace lockstep {

// Move only; stays where it is while a download to it is under way. Thread: one owner, the stream's.
class Landing {
 public:
  Landing() = default;
  // `bytes` zeros. Borrows the device. Errors: kResourceExhausted when it has no pinned memory.
  static Result<Landing> create(int64_t bytes, Device* device);
  ~Landing();
  Landing(Landing&& other) noexcept;
  Landing& operator=(Landing&& other) noexcept;

  // At an address that fits every number.
  template <typename T>
  T* at(int64_t byte) const {
    return reinterpret_cast<T*>(data_ + byte);
  }

 private:
  std::byte* data_ = nullptr;
  Device* device_ = nullptr;  // that the memory is pinned for; null: it is memory_'s
  std::vector<std::byte> memory_;
};

}  // namespace lockstep
