// LateQueue: a queue of a device at the pace that a stream of the CPU has as Pace::kLate: each piece of work
// as late as allowed, when somebody waits for it. A gate, a function of the host, stands before each piece.
#pragma once

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>

#include "device/device.h"

namespace lockstep::faults {

// Pieces are numbered as the stream numbers them: a launch, a copy or a replay each.
class LateQueue final : public DeviceQueue {
 public:
  static Result<std::unique_ptr<DeviceQueue>> create(DevicePtr device);
  ~LateQueue() override;
  LateQueue(const LateQueue&) = delete;
  LateQueue& operator=(const LateQueue&) = delete;

  void* native() override;
  Status status() override { return queue_->status(); }
  // Host memory is pinned.
  Status to_device(void* target, const void* source, int64_t bytes) override;
  // Host memory of any kind; up to kBounceBytes at a time.
  Status to_host(void* target, const void* source, int64_t bytes) override;
  Status mark(int64_t sequence) override { return queue_->mark(sequence); }
  bool done(int64_t sequence) override { return queue_->done(sequence); }
  Status wait(int64_t sequence) override;
  Result<int64_t> tick() override { return queue_->tick(); }
  Result<double> us_between(int64_t from, int64_t to) override { return queue_->us_between(from, to); }
  void forget_ticks() override { queue_->forget_ticks(); }
  Status begin_recording() override;
  Result<std::unique_ptr<DeviceGraph>> end_recording() override;
  Status replay(const DeviceGraph& graph) override;

  static constexpr int64_t kBounceBytes = int64_t{1} << 18;

 private:
  struct Gate {
    LateQueue* queue = nullptr;
    int64_t piece = 0;
  };
  struct Landing {
    const void* source = nullptr;
    void* target = nullptr;
    int64_t bytes = 0;
  };
  LateQueue(DevicePtr device, std::unique_ptr<DeviceQueue> queue, void* bounce);
  Status begin_piece();
  void open(int64_t piece);
  void pass(int64_t piece);

  DevicePtr device_;
  std::unique_ptr<DeviceQueue> queue_;
  char* bounce_;  // pinned: a copy to other memory would wait, with the gate closed before it
  std::deque<Gate> gates_;
  std::deque<Landing> landings_;
  bool recording_ = false;
  int64_t pieces_ = 0;
  std::mutex mutex_;
  std::condition_variable opened_;
  int64_t open_ = 0;  // pieces that may run
};

}  // namespace lockstep::faults
