#include "comm/thread_control.h"

#include <utility>

namespace lockstep {

void ThreadMailboxes::put(int32_t rank, std::span<const std::byte> message) {
  const std::lock_guard lock(mutex_);
  boxes_[static_cast<size_t>(rank)].emplace_back(message.begin(), message.end());
}

std::optional<std::vector<std::byte>> ThreadMailboxes::take(int32_t rank) {
  const std::lock_guard lock(mutex_);
  std::deque<std::vector<std::byte>>& box = boxes_[static_cast<size_t>(rank)];
  if (box.empty()) return std::nullopt;
  std::vector<std::byte> message = std::move(box.front());
  box.pop_front();
  return message;
}

}  // namespace lockstep
