// HostKernels: functions of the host as kernels of a device, for kernels that are written to be wrong and for
// those that a suite brings along. What a launch touches, as its OpSpec says, is copied to pinned memory, the
// function runs there, and what it writes is copied back: three pieces of work in the order of the stream,
// which a graph of the device captures like any other launch.
#pragma once

#include <cstddef>
#include <deque>
#include <memory>
#include <vector>

#include "conformance/host_call.h"
#include "device/device.h"
#include "device/stream.h"
#include "kernels/common/operands.h"

namespace lockstep::conformance {

// Thread: one owner, the stream's. Outlives stream and graphs; serves one stream, whose order keeps launches
// out of each other's copies.
class HostKernels {
 public:
  // `bytes`: what one launch touches at most. Null for the CPU, whose kernels are such functions anyway.
  // Errors: kResourceExhausted, as the device.
  static Result<std::unique_ptr<HostKernels>> create(DevicePtr device, int64_t bytes);
  ~HostKernels();
  HostKernels(const HostKernels&) = delete;
  HostKernels& operator=(const HostKernels&) = delete;

  // What is launched on a device: the Args in front, as the spec describes them.
  template <typename Args>
  struct Call {
    Args args;
    Kernel<Args> kernel;
    const OpSpec* spec;
    HostKernels* host;
  };
  template <typename Args>
  static void run(const Call<Args>& call, Worker worker) {
    static_assert(alignof(Args) <= alignof(std::max_align_t));
    const LaunchRecord launch{
        .site = {.spec = call.spec, .stage = {}}, .args = &call.args, .args_bytes = sizeof(Args)};
    const Thunk thunk = [](const void* args, AnyKernel kernel) {
      reinterpret_cast<Kernel<Args>>(kernel)(*static_cast<const Args*>(args), Worker{0, 1});
    };
    call.host->enqueue(launch, thunk, reinterpret_cast<AnyKernel>(call.kernel), worker.queue);
  }

 private:
  using AnyKernel = void (*)();
  using Thunk = void (*)(const void* args, AnyKernel kernel);
  struct Work {
    std::vector<unsigned char> args;  // whose addresses are those of the copies
    Thunk thunk = nullptr;
    AnyKernel kernel = nullptr;
  };
  HostKernels(DevicePtr device, void* memory, int64_t bytes);
  void enqueue(const LaunchRecord& launch, Thunk thunk, AnyKernel kernel, void* queue);

  DevicePtr device_;
  char* memory_;  // pinned
  int64_t bytes_;
  std::deque<Work> works_;  // of all launches so far: a graph keeps their addresses
};

// Launches `kernel(args)`: on the CPU as launch() does, on a device through `host`.
template <typename Args>
void launch_on_host(HostKernels* host, Stream& stream, const LaunchSite& site, Kernel<Args> kernel,
                    const Args& args, Parts parts = Parts::kOne) {
  if (host == nullptr) {
    launch(stream, *site.spec, site.stage, kernel, args, parts);
  } else {
    const HostKernels::Call<Args> call{args, kernel, site.spec, host};
    launch(stream, *site.spec, site.stage, &HostKernels::run<Args>, call, parts);
  }
}

}  // namespace lockstep::conformance
