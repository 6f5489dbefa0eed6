// PreparedStep: what the consumers of one step have prepared, byte for byte. A graph keeps the one it was
// captured from; each replay prepares anew and must come to the same bytes.
#pragma once

#include <array>
#include <cstring>
#include <new>
#include <span>
#include <string>
#include <type_traits>

#include "base/check.h"
#include "base/status.h"
#include "base/units.h"
#include "contract/consumer_spec.h"

namespace lockstep {

// Trivially copyable. Thread: one owner.
class PreparedStep {
 public:
  static constexpr int kMaxParts = 16;
  static constexpr int64_t kMaxBytes = 16384;

  struct Part {
    const ConsumerSpec* maker = nullptr;
    GroupId group;
    int32_t offset = 0;
    int32_t bytes = 0;
  };

  void clear() { count_ = used_ = 0; }

  // A launch of type T, zero, for `maker` to fill in. Stays at its place until clear().
  template <typename T>
  T& add(const ConsumerSpec& maker, GroupId group = GroupId(0)) {
    static_assert(std::is_trivially_copyable_v<T> && std::has_unique_object_representations_v<T>,
                  "a launch is compared byte for byte: no padding, no floats");
    const int32_t bytes = (static_cast<int32_t>(sizeof(T)) + 15) / 16 * 16;
    LS_CHECK(count_ < kMaxParts && used_ + bytes <= kMaxBytes, maker.name, " prepares ", bytes,
             " bytes after ", used_);
    parts_[static_cast<size_t>(count_++)] = {&maker, group, used_, bytes};
    T* launch = new (bytes_.data() + used_) T();
    // No byte of T is padding; behind it there may be some.
    std::memset(bytes_.data() + used_ + sizeof(T), 0, static_cast<size_t>(bytes) - sizeof(T));
    used_ += bytes;
    return *launch;
  }

  // What `maker` prepared for `group`.
  // Errors: kInternal (L2, moment kLaunch) when this step was prepared by somebody else: a plan made for one
  // variant is not launched with another.
  template <typename T>
  Result<const T*> get(const ConsumerSpec& maker, GroupId group = GroupId(0)) const {
    for (const Part& part : parts()) {
      if (part.maker == &maker && part.group == group)
        return std::launder(reinterpret_cast<const T*>(bytes_.data() + part.offset));
    }
    if (Status status = not_prepared(maker, group); !status.ok()) return status;
    return std::launder(reinterpret_cast<const T*>(bytes_.data()));
  }

  std::span<const Part> parts() const { return {parts_.data(), static_cast<size_t>(count_)}; }
  std::span<const std::byte> bytes_of(const Part& part) const {
    return {bytes_.data() + part.offset, static_cast<size_t>(part.bytes)};
  }

 private:
  Status not_prepared(const ConsumerSpec& maker, GroupId group) const;

  std::array<Part, kMaxParts> parts_;
  int32_t count_ = 0;
  int32_t used_ = 0;
  alignas(64) std::array<std::byte, kMaxBytes> bytes_;
};

}  // namespace lockstep
