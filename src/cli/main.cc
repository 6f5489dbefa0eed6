// lockstep: the command line.
#include <csignal>

#include "cli/program.h"

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_DFL);  // `lockstep generate | head` ends quietly
  return lockstep::cli::run_program({argv + 1, argv + argc}, LOCKSTEP_VERSION);
}
