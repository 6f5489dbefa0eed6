#include "base/status.h"
#include "device/cuda/cuda_queue.cuh"
#include "device/cuda/cuda_roofs.h"
#include "device/cuda/cuda_status.cuh"
#include "device/cuda/open_cuda.h"

namespace lockstep {
namespace {

constexpr int kMajor = 9;  // Hopper: the kernels are built for sm_90a alone

class CudaDevice final : public Device {
 public:
  CudaDevice(int index, std::string description) : index_(index), description_(std::move(description)) {}

  std::string description() const override { return description_; }

  Memory memory() const override {
    size_t available = 0, total = 0;
    cudaSetDevice(index_);
    cudaMemGetInfo(&available, &total);
    return {.total = static_cast<int64_t>(total), .available = static_cast<int64_t>(available)};
  }

  Result<void*> allocate(int64_t bytes) override {
    void* memory = nullptr;
    LS_TRY(cuda_status(cudaSetDevice(index_), "choice of the device"));
    const std::string what = concat(bytes, " bytes of device memory");
    LS_TRY(cuda_status(cudaMalloc(&memory, static_cast<size_t>(bytes)), what, Code::kResourceExhausted));
    LS_TRY(cuda_status(cudaMemset(memory, 0, static_cast<size_t>(bytes)), "zeros in device memory"));
    LS_TRY(cuda_status(cudaDeviceSynchronize(), "zeros in device memory"));
    return memory;
  }
  void release(void* memory) override { cudaFree(memory); }

  Result<void*> allocate_pinned(int64_t bytes) override {
    void* memory = nullptr;
    LS_TRY(cuda_status(cudaSetDevice(index_), "choice of the device"));
    const std::string what = concat(bytes, " bytes of pinned memory");
    LS_TRY(cuda_status(cudaMallocHost(&memory, static_cast<size_t>(bytes)), what, Code::kResourceExhausted));
    return memory;
  }
  void release_pinned(void* memory) override { cudaFreeHost(memory); }

  Status upload(void* target, const void* source, int64_t bytes) override {
    LS_TRY(cuda_status(cudaSetDevice(index_), "choice of the device"));
    LS_TRY(cuda_status(cudaMemcpy(target, source, static_cast<size_t>(bytes), cudaMemcpyHostToDevice),
                       "a copy to the device"));
    return cuda_status(cudaStreamSynchronize(nullptr), "a copy to the device");
  }

  Result<std::unique_ptr<DeviceQueue>> make_queue() override { return CudaQueue::create(index_); }

  Result<Roofs> measure_roofs(double seconds) override {
    LS_TRY(cuda_status(cudaSetDevice(index_), "choice of the device"));
    return measure_cuda_roofs(*this, seconds);
  }

 private:
  int index_;
  std::string description_;
};

}  // namespace

Result<DevicePtr> open_cuda(int32_t index) {
  int count = 0;
  const cudaError_t code = cudaGetDeviceCount(&count);
  if (code != cudaSuccess || index >= count) {
    return error(Code::kNotFound, "device: cuda:", index, " is asked for; ",
                 code != cudaSuccess ? cudaGetErrorString(code) : "there are fewer", " (", count,
                 " found); expected an NVIDIA GPU and its driver");
  }
  cudaDeviceProp properties{};
  LS_TRY(cuda_status(cudaGetDeviceProperties(&properties, index), "properties of the device"));
  if (properties.major != kMajor) {
    return error(Code::kNotFound, "device: cuda:", index, " is ", properties.name, " (compute capability ",
                 properties.major, ".", properties.minor, "); expected 9.0, for which this program is built");
  }
  return DevicePtr(std::make_shared<CudaDevice>(
      index, concat(properties.name, ", ", properties.multiProcessorCount, " multiprocessors")));
}

}  // namespace lockstep
