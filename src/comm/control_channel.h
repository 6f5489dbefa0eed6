// ControlChannel: how control threads reach each other. Apart from the communicators, since a compute thread
// may be stuck in one of those.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace lockstep {

// Thread: one owner, a rank's control thread, once it has begun.
class ControlChannel {
 public:
  virtual ~ControlChannel() = default;

  virtual int32_t rank() const = 0;
  virtual int32_t size() const = 0;
  // Never blocks. What goes to a rank that does not listen may be lost; what two ranks say to a third arrives
  // in any order.
  virtual void send(int32_t to, std::span<const std::byte> message) = 0;
  // The next message, if one has arrived.
  virtual std::optional<std::vector<std::byte>> receive() = 0;
  // Tries for a moment to bring on its way what was sent. Blocks for at most half a second.
  virtual void flush() = 0;
};

}  // namespace lockstep
