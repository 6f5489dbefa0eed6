#include "base/fault.h"

namespace lockstep {

bool rule_is_on(std::string_view) { return true; }

}  // namespace lockstep
