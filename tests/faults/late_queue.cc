#include "faults/late_queue.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <limits>

#include "base/check.h"
#include "conformance/host_call.h"

namespace lockstep::faults {
namespace {

// An entry that waits for what it has not let through comes out wrong, and does not stand for ever.
constexpr std::chrono::seconds kPatience(10);

}  // namespace

LateQueue::LateQueue(DevicePtr device, std::unique_ptr<DeviceQueue> queue, void* bounce)
    : device_(std::move(device)), queue_(std::move(queue)), bounce_(static_cast<char*>(bounce)) {}

Result<std::unique_ptr<DeviceQueue>> LateQueue::create(DevicePtr device) {
  std::unique_ptr<DeviceQueue> queue = LS_TRY(device->make_queue());
  void* bounce = LS_TRY(device->allocate_pinned(kBounceBytes));
  return std::unique_ptr<DeviceQueue>(new LateQueue(std::move(device), std::move(queue), bounce));
}

LateQueue::~LateQueue() {
  open(std::numeric_limits<int64_t>::max());
  queue_.reset();  // waits
  device_->release_pinned(bounce_);
}

// Asked for once per launch, just before it.
void* LateQueue::native() {
  const Status begun = begin_piece();
  LS_CHECK(begun.ok(), begun.message());
  return queue_->native();
}

Status LateQueue::begin_piece() {
  if (recording_) return {};
  if (pieces_ > 0) LS_TRY(queue_->mark(pieces_));
  Gate& gate = gates_.emplace_back(Gate{this, ++pieces_});
  const auto pass = [](void* self) {
    const auto& own = *static_cast<const Gate*>(self);
    own.queue->pass(own.piece);
  };
  conformance::enqueue_host_call(queue_->native(), {.in = {}, .run = pass, .self = &gate, .out = {}});
  return {};
}

void LateQueue::pass(int64_t piece) {
  std::unique_lock lock(mutex_);
  opened_.wait_for(lock, kPatience, [&] { return open_ >= piece; });
}

void LateQueue::open(int64_t piece) {
  const std::lock_guard lock(mutex_);
  open_ = std::max(open_, piece);
  opened_.notify_all();
}

Status LateQueue::to_device(void* target, const void* source, int64_t bytes) {
  LS_TRY(begin_piece());
  return queue_->to_device(target, source, bytes);
}

Status LateQueue::to_host(void* target, const void* source, int64_t bytes) {
  LS_CHECK(bytes <= kBounceBytes, bytes, " bytes to the host; the bounce has ", kBounceBytes);
  LS_TRY(begin_piece());
  LS_TRY(queue_->to_host(bounce_, source, bytes));
  Landing& landing = landings_.emplace_back(Landing{bounce_, target, bytes});
  const auto land = [](void* self) {
    const auto& own = *static_cast<const Landing*>(self);
    std::memcpy(own.target, own.source, static_cast<size_t>(own.bytes));
  };
  conformance::enqueue_host_call(queue_->native(), {.in = {}, .run = land, .self = &landing, .out = {}});
  return {};
}

Status LateQueue::wait(int64_t sequence) {
  open(sequence);
  return queue_->wait(sequence);
}

Status LateQueue::begin_recording() {
  recording_ = true;
  return queue_->begin_recording();
}

Result<std::unique_ptr<DeviceGraph>> LateQueue::end_recording() {
  recording_ = false;
  return queue_->end_recording();
}

Status LateQueue::replay(const DeviceGraph& graph) {
  LS_TRY(begin_piece());
  return queue_->replay(graph);
}

}  // namespace lockstep::faults
