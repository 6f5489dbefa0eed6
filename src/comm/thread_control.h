// The control channel of ranks that are threads of one process.
#pragma once

#include <deque>
#include <memory>
#include <mutex>
#include <vector>

#include "comm/control_channel.h"

namespace lockstep {

// Thread: any.
class ThreadMailboxes {
 public:
  explicit ThreadMailboxes(int32_t ranks) : boxes_(static_cast<size_t>(ranks)) {}

  int32_t ranks() const { return static_cast<int32_t>(boxes_.size()); }
  void put(int32_t rank, std::span<const std::byte> message);
  std::optional<std::vector<std::byte>> take(int32_t rank);

 private:
  std::mutex mutex_;
  std::vector<std::deque<std::vector<std::byte>>> boxes_;  // [ranks]
};

class ThreadControlChannel final : public ControlChannel {
 public:
  ThreadControlChannel(std::shared_ptr<ThreadMailboxes> boxes, int32_t rank)
      : boxes_(std::move(boxes)), rank_(rank) {}

  int32_t rank() const override { return rank_; }
  int32_t size() const override { return boxes_->ranks(); }
  void send(int32_t to, std::span<const std::byte> message) override { boxes_->put(to, message); }
  std::optional<std::vector<std::byte>> receive() override { return boxes_->take(rank_); }
  void flush() override {}

 private:
  std::shared_ptr<ThreadMailboxes> boxes_;
  int32_t rank_;
};

}  // namespace lockstep
