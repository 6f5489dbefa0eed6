// The one way to launch a CUDA kernel: a plain function of its Args, whose bytes travel with the launch, on a
// grid that depends on shapes alone.
#pragma once

#include <cuda_runtime.h>

#include <type_traits>

#include "device/cuda/cuda_queue.cuh"
#include "device/thread_pool.h"

namespace lockstep::cuda {

struct Grid {
  dim3 blocks;
  dim3 threads;
  size_t shared_bytes = 0;  // dynamic
};

// Runs `kernel(args)` on the queue that `worker` names. A failure is kept there.
template <typename Args>
void launch_grid(const Worker& worker, void (*kernel)(Args), const Grid& grid,
                 const std::type_identity_t<Args>& args) {
  static_assert(std::is_trivially_copyable_v<Args>, "a launch copies the bytes of its Args");
  auto& queue = *static_cast<CudaQueue*>(worker.queue);
  if (grid.blocks.x == 0 || grid.blocks.y == 0 || grid.blocks.z == 0) return;
  kernel<<<grid.blocks, grid.threads, grid.shared_bytes, queue.stream()>>>(args);
  queue.note(cudaGetLastError(), "the launch of a kernel");
}

// The same, but blocks may begin while the launch before still runs, so the kernel calls await_launches()
// before it touches what other launches write or read. In between lies what it costs to begin.
template <typename Args>
void launch_early(const Worker& worker, void (*kernel)(Args), const Grid& grid,
                  const std::type_identity_t<Args>& args) {
  static_assert(std::is_trivially_copyable_v<Args>, "a launch copies the bytes of its Args");
  auto& queue = *static_cast<CudaQueue*>(worker.queue);
  if (grid.blocks.x == 0 || grid.blocks.y == 0 || grid.blocks.z == 0) return;
  cudaLaunchAttribute early{};
  early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  early.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = grid.blocks;
  config.blockDim = grid.threads;
  config.dynamicSmemBytes = grid.shared_bytes;
  config.stream = queue.stream();
  config.attrs = &early;
  config.numAttrs = 1;
  queue.note(cudaLaunchKernelEx(&config, kernel, args), "the launch of a kernel");
}

// In a kernel that launch_early() runs, in every thread: waits until all launches before are done, whose
// writes it sees; and lets the launch behind it begin as early.
__device__ inline void await_launches() {
  asm volatile("griddepcontrol.wait;" ::: "memory");
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
}

// Threads of a block share one memory of more than 48 KiB only if the kernel says so first; once per kernel.
template <typename Args>
void allow_shared(const Worker& worker, void (*kernel)(Args), size_t bytes) {
  auto& queue = *static_cast<CudaQueue*>(worker.queue);
  queue.note(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                  cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)),
             "the shared memory of a kernel");
}

}  // namespace lockstep::cuda
