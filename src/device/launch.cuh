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

// Threads of a block share one memory of more than 48 KiB only if the kernel says so first; once per kernel.
template <typename Args>
void allow_shared(const Worker& worker, void (*kernel)(Args), size_t bytes) {
  auto& queue = *static_cast<CudaQueue*>(worker.queue);
  queue.note(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                  cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)),
             "the shared memory of a kernel");
}

}  // namespace lockstep::cuda
