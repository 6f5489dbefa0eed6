// CudaQueue: a CUDA stream as a DeviceQueue, and what kernels find behind Worker::queue.
#pragma once

#include <cuda_runtime_api.h>

#include <array>
#include <utility>
#include <vector>

#include "device/cuda/products.cuh"
#include "device/device.h"

namespace lockstep {

class CudaQueue final : public DeviceQueue {
 public:
  static Result<std::unique_ptr<DeviceQueue>> create(int device);
  ~CudaQueue() override;
  CudaQueue(const CudaQueue&) = delete;
  CudaQueue& operator=(const CudaQueue&) = delete;

  cudaStream_t stream() const { return stream_; }
  // Enqueues a matrix product of the library. A failure is kept.
  void multiply(const ProductArgs& args);
  // Keeps the first failure of a launch.
  void note(cudaError_t code, const char* what);

  void* native() override { return this; }
  Status status() override;
  Status to_device(void* target, const void* source, int64_t bytes) override;
  Status to_host(void* target, const void* source, int64_t bytes) override;
  Status mark(int64_t sequence) override;
  bool done(int64_t sequence) override;
  Status wait(int64_t sequence) override;
  Result<int64_t> tick() override;
  Result<double> us_between(int64_t from, int64_t to) override;
  void forget_ticks() override { ticks_ = 0; }
  Status begin_recording() override;
  Result<std::unique_ptr<DeviceGraph>> end_recording() override;
  Status replay(const DeviceGraph& graph) override;

 private:
  // Events are used in turn: an older mark counts as done when a newer one is.
  struct Mark {
    cudaEvent_t event = nullptr;
    int64_t sequence = -1;
  };
  static constexpr size_t kMarks = 64;

  explicit CudaQueue(int device) : device_(device) {}
  Mark* mark_behind(int64_t sequence);

  int device_;
  cudaStream_t stream_ = nullptr;
  std::array<Mark, kMarks> marks_;
  size_t next_mark_ = 0;
  int64_t done_ = 0;
  Status failed_;
  std::vector<cudaEvent_t> tick_events_;
  size_t ticks_ = 0;  // of them given out
  Products products_;
};

}  // namespace lockstep
