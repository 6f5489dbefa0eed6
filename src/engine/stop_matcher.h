// StopMatcher: lets text through until a stop string begins, never a byte of the stop string itself.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace lockstep {

// The stop string that is complete first counts, the longest where several are: the outcome does not depend
// on where the text is cut. Text that may be the beginning of one is held back until it is decided. Cost:
// O(text * stops) per push.
class StopMatcher {
 public:
  explicit StopMatcher(std::vector<std::string> stops) : stops_(std::move(stops)) {}

  struct Piece {
    std::string text;      // may be shown
    bool stopped = false;  // a stop string follows it; nothing more will come
  };
  Piece push(std::string_view text);
  // What is still held back: the end came without a stop string.
  std::string flush();

 private:
  std::vector<std::string> stops_;
  std::string held_;
};

}  // namespace lockstep
