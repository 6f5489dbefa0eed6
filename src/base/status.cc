#include "base/status.h"

namespace lockstep {

std::string_view name_of(Code code) {
  switch (code) {
    case Code::kOk: return "ok";
    case Code::kInvalidArgument: return "invalid argument";
    case Code::kNotFound: return "not found";
    case Code::kUnimplemented: return "unimplemented";
    case Code::kResourceExhausted: return "resource exhausted";
    case Code::kDevice: return "device lost";
    case Code::kInternal: return "internal";
  }
  return "unknown";
}

const std::string& Status::no_message() {
  static const std::string kNone;
  return kNone;
}

}  // namespace lockstep
