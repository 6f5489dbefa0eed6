#include "engine/exit_codes.h"

#include "base/fault.h"

namespace lockstep {

int exit_code_of(const Status& status) {
  if (status.ok()) return 0;
  const bool lost = status.code() == Code::kDevice;
  if (status.fault() == nullptr) return lost ? kExitDeviceLost : kExitError;
  if (status.fault()->check != "G1") return kExitGuardFault;
  return lost ? kExitRankLost : kExitRanksDisagree;
}

}  // namespace lockstep
