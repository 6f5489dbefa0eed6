// MpiFabric: ranks as processes that an MPI launcher has started (mpirun, srun, an operator). Only where MPI
// was found; everybody else goes through comm/registry.h.
#pragma once

#include <chrono>
#include <memory>

#include "comm/mesh.h"

namespace lockstep {

namespace internal {
class MpiJob;
}

// Messages go from member to member, so that it is known who has come. What a rank says about a collective
// rides in front of its first bytes; blocks that do not fit behind it follow when all have said the same.
// Thread: one owner; its communicators are closed by any thread.
class MpiFabric final : public Fabric {
 public:
  // How long ranks wait for each other while they make groups: processes may start late.
  static constexpr std::chrono::seconds kJoin{60};

  // Joins the job that this process was started in; once per process. In a collective a rank waits for the
  // others for `deadline` at most. Errors: kDevice when MPI cannot be had from several threads; kInternal
  // for the second time.
  static Result<std::unique_ptr<MpiFabric>> create(std::chrono::milliseconds deadline);

  int32_t rank() const override;
  int32_t size() const override;
  // Errors: those of a collective, when ranks do not come.
  Result<std::unique_ptr<Communicator>> split(std::string_view name, int32_t color, Ledger* ledger) override;

 private:
  MpiFabric(std::shared_ptr<internal::MpiJob> job, std::chrono::milliseconds deadline);

  std::shared_ptr<internal::MpiJob> job_;  // ends with the last communicator
  std::chrono::milliseconds deadline_;
  std::unique_ptr<Communicator> joined_;
  int32_t splits_ = 0;
};

}  // namespace lockstep
