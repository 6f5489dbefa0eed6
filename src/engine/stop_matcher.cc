#include "engine/stop_matcher.h"

#include <algorithm>
#include <utility>

namespace lockstep {

StopMatcher::Piece StopMatcher::push(std::string_view text) {
  held_ += text;
  size_t first = std::string::npos;
  for (const std::string& stop : stops_) first = std::min(first, held_.find(stop));
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
