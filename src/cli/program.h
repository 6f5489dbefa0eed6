// The program behind main(): which command runs, and how every failure leaves.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace lockstep::cli {

// Runs a command line without the program's name and gives the exit code: 0 done, 1 an error, 2 a wrong
// command line, 70 the device is lost, 71 ranks disagree, 72 a rank is dead or stuck, 73 another broken rule,
// 128 + n signal n. An error is one line on stderr; of several ranks, 0 alone writes to stdout.
int run_program(const std::vector<std::string>& words, std::string_view version);

// A message as it may stand on one line of a terminal: control characters become spaces, and more than 1000
// bytes are cut.
std::string one_line(std::string_view message);

}  // namespace lockstep::cli
