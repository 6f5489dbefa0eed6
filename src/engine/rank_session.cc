#include "engine/rank_session.h"

#include <chrono>
#include <cstdio>
#include <utility>

#include "comm/registry.h"
#include "engine/exit_codes.h"

namespace lockstep {
namespace {

// Whether a rank has to be waited for is what control threads know, and they close the mesh.
constexpr std::chrono::hours kForEver{24 * 365 * 10};
// A rank whose mesh is closed computes to the end of its step and puts the fault on record; less than a front
// waits for it (RankJob::leave_ns).
constexpr int64_t kGrace = 2'500'000'000;

}  // namespace

Result<std::unique_ptr<RankSession>> RankSession::begin(const MeshShape& shape,
                                                        std::function<void(int code)> end_process) {
  std::unique_ptr<RankSession> session(new RankSession());
  if (shape.world() == 1) {
    session->mesh_ = std::make_unique<Mesh>();
    return session;
  }
  std::unique_ptr<Fabric> fabric = LS_TRY(make_mpi_fabric(kForEver));
  std::unique_ptr<ControlChannel> channel = LS_TRY(make_mpi_control_channel());
  session->mesh_ = LS_TRY(Mesh::create(shape, std::move(fabric)));
  Mesh& mesh = *session->mesh_;
  const auto say = [rank = mesh.rank()](const std::string& report) {
    std::fprintf(stderr, "lockstep: rank %d reports:\n%s", static_cast<int>(rank), report.c_str());
  };
  const auto last = [rank = mesh.rank(), words = session->last_words_](const Status& why) {
    std::fprintf(stderr, "lockstep: rank %d does not come back and is ended: %s\n", static_cast<int>(rank),
                 why.message().c_str());
    const std::lock_guard lock(words->mutex);
    if (words->say) words->say(why);
  };
  const auto end = [end_process = std::move(end_process)](const Status& why) {
    end_process(exit_code_of(why));
  };
  session->control_ =
      std::make_unique<Control>(std::move(channel), mesh.ledger(),
                                ControlOptions{.shape = shape,
                                               .limits = {},
                                               .fail = [&mesh](const Status& why) { mesh.fail(why); },
                                               .say = say,
                                               .end = end,
                                               .last = last,
                                               .grace = kGrace});
  return session;
}

void RankSession::set_last_words(std::function<void(const Status& why)> words) {
  const std::lock_guard lock(last_words_->mutex);
  last_words_->say = std::move(words);
}

Status RankSession::leave(const Status& how) {
  if (!control_) return how;
  const Status closed = control_->leave(how);
  return how.ok() ? closed : how;
}

}  // namespace lockstep
