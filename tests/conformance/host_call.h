// Functions of the host in the order of a device's queue.
#pragma once

#include <cstdint>
#include <span>

namespace lockstep::conformance {

// Memory of a device, and pinned memory of the host that stands for it.
struct HostCopy {
  void* on_device = nullptr;
  void* on_host = nullptr;
  int64_t bytes = 0;
};

// What a queue does with one function: copies in, run(self) unless there is none, copies out.
struct HostCall {
  std::span<const HostCopy> in;
  void (*run)(void* self) = nullptr;  // calls nothing of the device's
  void* self = nullptr;               // lives as long as the queue, and as every graph that has captured it
  std::span<const HostCopy> out;
};

// Enqueues it on the queue that a launch is given (Worker::queue); what fails is kept there. A queue that is
// being recorded captures it. Precondition: the build has the device.
void enqueue_host_call(void* queue, const HostCall& call);

}  // namespace lockstep::conformance
