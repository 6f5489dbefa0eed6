#include "engine/stop_matcher.h"

#include <algorithm>
#include <tuple>
#include <utility>

namespace lockstep {

StopMatcher::Piece StopMatcher::push(std::string_view text) {
  held_ += text;
  size_t first = std::string::npos, end = std::string::npos;  // of the stop string that is complete first
  for (const std::string& stop : stops_) {
    const size_t at = held_.find(stop);
    if (at == std::string::npos) continue;
    if (std::pair(at + stop.size(), at) < std::pair(end, first))
      std::tie(end, first) = std::pair(at + stop.size(), at);
  }
  if (first != std::string::npos) {
    Piece piece{.text = held_.substr(0, first), .stopped = true};
    held_.clear();
    return piece;
  }
  size_t keep = 0;  // the longest end of the text that begins a stop string
  for (const std::string& stop : stops_) {
    for (size_t length = std::min(stop.size() - 1, held_.size()); length > keep; --length) {
      if (held_.ends_with(std::string_view(stop).substr(0, length))) {
        keep = length;
        break;
      }
    }
  }
  Piece piece{.text = held_.substr(0, held_.size() - keep), .stopped = false};
  held_.erase(0, held_.size() - keep);
  return piece;
}

std::string StopMatcher::flush() { return std::exchange(held_, {}); }

}  // namespace lockstep
