// Exit codes of the program, beside 0 (done) and 128 + n (signal n).
#pragma once

#include "base/status.h"

namespace lockstep {

inline constexpr int kExitError = 1;
inline constexpr int kExitUsage = 2;
inline constexpr int kExitDeviceLost = 70;     // device or engine
inline constexpr int kExitRanksDisagree = 71;  // G1: who said what
inline constexpr int kExitRankLost = 72;       // G1: a rank is dead or stuck
inline constexpr int kExitGuardFault = 73;     // any other broken rule

// 0 for ok. A broken G1 whose code is kDevice says that a rank is missing, any other that ranks disagree.
int exit_code_of(const Status& status);

}  // namespace lockstep
