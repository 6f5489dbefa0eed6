// Staging: host memory that asynchronous copies read. A lease is filled, handed to Stream::copy, and comes
// back by itself once the copy has read it; until then nobody gets that memory again (L5).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/status.h"
#include "device/stream.h"

namespace lockstep {

// One slot of a ring, held by whoever fills it. Moves, does not copy; gives the slot back when dropped.
class StagingLease {
 public:
  StagingLease(StagingLease&& other) noexcept;
  StagingLease& operator=(StagingLease&& other) = delete;
  ~StagingLease();

  std::span<std::byte> bytes() const { return bytes_; }

 private:
  friend class StagingRing;
  friend class Stream;
  StagingLease(StagingRing* ring, int32_t slot, std::span<std::byte> bytes)
      : ring_(ring), slot_(slot), bytes_(bytes) {}

  StagingRing* ring_;  // null: moved from, or handed to a copy
  int32_t slot_;
  std::span<std::byte> bytes_;
};

// Thread: one owner, the stream's.
class StagingRing {
 public:
  // `slots` slots of `bytes` bytes; at least one of each. For copies to a device: pinned memory of it.
  StagingRing(int32_t slots, int64_t bytes, Device* device = nullptr);
  ~StagingRing();
  StagingRing(const StagingRing&) = delete;
  StagingRing& operator=(const StagingRing&) = delete;

  // A free slot of `bytes` bytes; waits for the stream's oldest copy when all are in flight.
  // Errors: kInternal for more bytes than a slot has, or when every slot is held and none in flight;
  // kResourceExhausted when the device had no pinned memory.
  Result<StagingLease> lease(Stream& stream, int64_t bytes);

  int32_t in_flight() const;  // slots that a copy has still to read

 private:
  friend class StagingLease;
  friend class Stream;
  enum class State : uint8_t { kFree, kHeld, kInFlight };
  struct Slot {
    State state = State::kFree;
    Event read;  // kInFlight: done when the copy has read the slot
  };
  std::span<std::byte> bytes_of(int32_t slot, int64_t bytes);

  int64_t slot_bytes_;
  Device* device_;
  Result<void*> pinned_;           // of the device
  std::vector<std::byte> memory_;  // without one
  std::vector<Slot> slots_;
};

}  // namespace lockstep
