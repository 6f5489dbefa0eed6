// DeviceLink: what carries the collectives of a group between the memories of its members' devices.
#pragma once

#include "base/status.h"
#include "comm/exchange.h"

namespace lockstep {

// Thread: run() by the owner of the communicator, close() by anybody.
class DeviceLink {
 public:
  virtual ~DeviceLink() = default;

  // Enqueues an exchange behind all else on a queue of this member's device, or into the recording that the
  // queue makes, and returns. Memory is the device's. Errors: kDevice, as the library says.
  virtual Status run(const Exchange& exchange, void* queue) = 0;
  // Whether that queue makes a recording, in which nothing runs yet.
  virtual bool records(void* queue) const = 0;
  // Ends what the device waits in, as soon as it can; nothing is enqueued any more. Returns at once.
  virtual void close() = 0;
};

}  // namespace lockstep
