// For builds without devices, whose streams have no queue.
#include "base/check.h"
#include "conformance/host_call.h"

namespace lockstep::conformance {

void enqueue_host_call(void* /*queue*/, const HostCall& /*call*/) {
  check_failed("the build has the device of this queue", "");
}

}  // namespace lockstep::conformance
