#include "base/check.h"
#include "device/cuda/cuda_queue.cuh"
#include "device/cuda/cuda_status.cuh"

namespace lockstep {
namespace {

// A recording, instantiated once; every replay is one call.
class CudaGraph final : public DeviceGraph {
 public:
  explicit CudaGraph(cudaGraphExec_t executable) : executable_(executable) {}
  ~CudaGraph() override { cudaGraphExecDestroy(executable_); }
  CudaGraph(const CudaGraph&) = delete;
  CudaGraph& operator=(const CudaGraph&) = delete;
  cudaGraphExec_t executable() const { return executable_; }

 private:
  cudaGraphExec_t executable_;
};

}  // namespace

Result<std::unique_ptr<DeviceQueue>> CudaQueue::create(int device) {
  std::unique_ptr<CudaQueue> queue(new CudaQueue(device));
  LS_TRY(cuda_status(cudaSetDevice(device), "choice of the device"));
  LS_TRY(cuda_status(cudaStreamCreateWithFlags(&queue->stream_, cudaStreamNonBlocking), "a stream"));
  LS_TRY(queue->products_.open());
  for (Mark& mark : queue->marks_)
    LS_TRY(cuda_status(cudaEventCreateWithFlags(&mark.event, cudaEventDisableTiming), "an event"));
  return std::unique_ptr<DeviceQueue>(std::move(queue));
}

CudaQueue::~CudaQueue() {
  if (stream_ != nullptr) cudaStreamSynchronize(stream_);
  for (const Mark& mark : marks_) {
    if (mark.event != nullptr) cudaEventDestroy(mark.event);
  }
  for (const cudaEvent_t event : tick_events_) cudaEventDestroy(event);
  if (stream_ != nullptr) cudaStreamDestroy(stream_);
}

void CudaQueue::note(cudaError_t code, const char* what) {
  if (code != cudaSuccess && failed_.ok()) failed_ = cuda_status(code, what);
}

void CudaQueue::multiply(const ProductArgs& args) {
  Status status = products_.multiply(args, stream_);
  if (failed_.ok()) failed_ = std::move(status);
}

Status CudaQueue::status() { return failed_; }

Status CudaQueue::to_device(void* target, const void* source, int64_t bytes) {
  return cuda_status(
      cudaMemcpyAsync(target, source, static_cast<size_t>(bytes), cudaMemcpyHostToDevice, stream_),
      "a copy to the device");
}

Status CudaQueue::to_host(void* target, const void* source, int64_t bytes) {
  return cuda_status(
      cudaMemcpyAsync(target, source, static_cast<size_t>(bytes), cudaMemcpyDeviceToHost, stream_),
      "a copy to the host");
}

Status CudaQueue::mark(int64_t sequence) {
  Mark& mark = marks_[next_mark_];
  next_mark_ = (next_mark_ + 1) % kMarks;
  // A place that nobody asked about for so long is passed on to the next younger mark.
  mark.sequence = sequence;
  return cuda_status(cudaEventRecord(mark.event, stream_), "an event");
}

// The oldest mark at or behind a place.
CudaQueue::Mark* CudaQueue::mark_behind(int64_t sequence) {
  Mark* found = nullptr;
  for (Mark& mark : marks_) {
    if (mark.sequence >= sequence && (found == nullptr || mark.sequence < found->sequence)) found = &mark;
  }
  return found;
}

bool CudaQueue::done(int64_t sequence) {
  if (sequence <= done_) return true;
  const Mark* mark = mark_behind(sequence);
  LS_CHECK(mark != nullptr, "no mark behind ", sequence);
  const cudaError_t code = cudaEventQuery(mark->event);
  if (code == cudaErrorNotReady) return false;
  note(code, "the work of a stream");
  done_ = mark->sequence;
  return true;
}

Status CudaQueue::wait(int64_t sequence) {
  if (sequence <= done_) return status();
  const Mark* mark = mark_behind(sequence);
  LS_CHECK(mark != nullptr, "no mark behind ", sequence);
  note(cudaEventSynchronize(mark->event), "the work of a stream");
  done_ = mark->sequence;
  return status();
}

Result<int64_t> CudaQueue::tick() {
  if (ticks_ == tick_events_.size()) {
    cudaEvent_t event = nullptr;
    LS_TRY(cuda_status(cudaEventCreate(&event), "an event"));
    tick_events_.push_back(event);
  }
  LS_TRY(cuda_status(cudaEventRecord(tick_events_[ticks_], stream_), "an event"));
  return static_cast<int64_t>(ticks_++);
}

Result<double> CudaQueue::us_between(int64_t from, int64_t to) {
  const auto limit = static_cast<int64_t>(ticks_);
  LS_CHECK(from >= 0 && from <= to && to < limit, "ticks ", from, " and ", to, " of ", limit);
  const cudaEvent_t begin = tick_events_[static_cast<size_t>(from)];
  const cudaEvent_t end = tick_events_[static_cast<size_t>(to)];
  float ms = 0;
  LS_TRY(cuda_status(cudaEventSynchronize(end), "the work of a stream"));
  LS_TRY(cuda_status(cudaEventElapsedTime(&ms, begin, end), "the time between two events"));
  return 1000.0 * static_cast<double>(ms);
}

Status CudaQueue::begin_recording() {
  return cuda_status(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "a capture");
}

Result<std::unique_ptr<DeviceGraph>> CudaQueue::end_recording() {
  cudaGraph_t graph = nullptr;
  const Status captured = cuda_status(cudaStreamEndCapture(stream_, &graph), "the end of a capture");
  LS_TRY(status());
  if (!captured.ok()) return captured;
  cudaGraphExec_t executable = nullptr;
  const Status made = cuda_status(cudaGraphInstantiate(&executable, graph, 0), "a graph");
  cudaGraphDestroy(graph);
  if (!made.ok()) return made;
  return std::unique_ptr<DeviceGraph>(std::make_unique<CudaGraph>(executable));
}

Status CudaQueue::replay(const DeviceGraph& graph) {
  return cuda_status(cudaGraphLaunch(static_cast<const CudaGraph&>(graph).executable(), stream_),
                     "the launch of a graph");
}

}  // namespace lockstep
