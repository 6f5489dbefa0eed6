#include "rank_program.h"

#include <unistd.h>

#include <cstdio>
#include <sstream>

#include "engine/exit_codes.h"
#include "engine/rank_part.h"

namespace lockstep::testing {
namespace {

// At once, so that lines of ranks do not mix.
int tell(const Status& status) {
  std::istringstream lines(status.message());
  std::string text;
  for (std::string line; std::getline(lines, line);) text += concat("drill: ", line, "\n");
  std::fputs(text.c_str(), stderr);
  return exit_code_of(status);
}

Status run_rank(const MeshShape& shape, const RankPart& part,
                const std::function<Status(RankSession&)>& work) {
  const auto session = LS_TRY(RankSession::begin(shape, [&part](int code) {
    part.end_with(code);
    ::_exit(code);
  }));
  const Status how = session->leave(work(*session));
  part.end_with(exit_code_of(how));  // before the mesh ends, which waits for ranks that may be lost
  return how.ok() ? how
                  : how.with_message(concat("rank ", session->mesh().rank(), " says:\n", how.message()));
}

}  // namespace

int run_rank_program(const std::vector<std::string>& words, const MeshShape& shape,
                     const std::function<Status(RankSession&)>& work) {
  mute_other_ranks();
  const Result<RankPart> part = RankPart::of(shape);
  if (!part.ok()) return tell(part.status());
  const Result<std::optional<int>> front = part->run_as_front(words);
  if (!front.ok()) return tell(front.status());
  if (front->has_value()) return **front;
  const int code = tell(run_rank(shape, *part, work));
  part->end_with(code);
  return code;
}

void say_phase(int32_t rank, std::string_view phase) {
  std::fprintf(stderr, "drill: rank %d pid %d phase %.*s\n", static_cast<int>(rank),
               static_cast<int>(::getpid()), static_cast<int>(phase.size()), phase.data());
}

}  // namespace lockstep::testing
