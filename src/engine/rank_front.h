// The front of a job of ranks: the process that a person started, which is none of the ranks. It starts them
// through mpirun, passes signals on (SIGUSR1 to each rank), and learns from each rank itself how it ended,
// since a launcher's own exit code says little. Whatever happens, it leaves no process, no shared memory and
// no folder behind.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"

namespace lockstep {

struct RankJob {
  int32_t ranks = 1;
  std::vector<std::string> command;    // the program, found without PATH, and its arguments
  std::string launcher = "mpirun";     // looked up in PATH; takes -n N PROGRAM ARGUMENT...
  int64_t notice_ns = 15'000'000'000;  // how long ranks may take to notice that one of them has vanished
  int64_t leave_ns = 3'000'000'000;    // how long they may go on after one of them has ended with a failure
};

// What the front knows of one rank.
struct RankEnd {
  int32_t pid = 0;          // 0: it never reported
  std::optional<int> code;  // that it said it ends with; empty with a pid: it vanished
};

// What became of the launcher.
struct LauncherEnd {
  int status = 0;               // as wait() gives it
  bool ended_by_front = false;  // it was told to
};

// How a job ended. `said` is what the front has to add to what ranks said themselves; empty: nothing.
struct JobEnd {
  int code = 0;
  std::string said;
};

// Blocks until every rank and the launcher have ended. stdin, stdout and stderr are the job's. To be called
// by a process with one thread, before it has done anything else.
// Errors: kNotFound without the launcher; kResourceExhausted for a socket, folder or process not to be had.
Result<JobEnd> run_rank_job(const RankJob& job);

// The job's exit code from what the ranks said, the launcher's end, and the signal that ended it all
// (0: none). A cause wins over what followed from it: disagreement, guard fault, lost device, other errors,
// and only then ranks that missed another.
JobEnd judge_job(const std::vector<RankEnd>& ranks, const LauncherEnd& launcher, int signal);

}  // namespace lockstep
