// What front and ranks of one host say to each other, over a socket that has no place in a folder.
#pragma once

#include <cstdint>
#include <string>

#include "base/status.h"

namespace lockstep {

inline constexpr const char* kFrontVariable = "LOCKSTEP_FRONT";  // the name of the socket, for ranks

// One packet from a rank.
struct FrontNote {
  enum class Kind : int32_t { kHello = 1, kEnd = 2 };
  Kind kind = Kind::kHello;
  int32_t rank = 0;
  int32_t code = 0;  // of kEnd
};

// A socket that listens under `name`, or one that is connected to it; closed on exec. Errors:
// kResourceExhausted, with the system's reason.
Result<int> listen_as_front(const std::string& name);
Result<int> connect_to_front(const std::string& name);

}  // namespace lockstep
