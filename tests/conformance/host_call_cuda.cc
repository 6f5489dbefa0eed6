#include "conformance/host_call.h"
#include "device/cuda/cuda_queue.cuh"

namespace lockstep::conformance {

void enqueue_host_call(void* queue, const HostCall& call) {
  auto& on = *static_cast<CudaQueue*>(queue);
  for (const HostCopy& copy : call.in) {
    on.note(cudaMemcpyAsync(copy.on_host, copy.on_device, static_cast<size_t>(copy.bytes),
                            cudaMemcpyDeviceToHost, on.stream()),
            "a copy for a function of the host");
  }
  if (call.run != nullptr)
    on.note(cudaLaunchHostFunc(on.stream(), call.run, call.self), "a function of the host");
  for (const HostCopy& copy : call.out) {
    on.note(cudaMemcpyAsync(copy.on_device, copy.on_host, static_cast<size_t>(copy.bytes),
                            cudaMemcpyHostToDevice, on.stream()),
            "a copy from a function of the host");
  }
}

}  // namespace lockstep::conformance
