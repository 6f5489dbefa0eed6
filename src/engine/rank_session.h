// What a process needs to be a rank: its mesh, and the control thread that watches over all of them.
#pragma once

#include <functional>
#include <memory>
#include <mutex>

#include "comm/control.h"
#include "comm/mesh.h"

namespace lockstep {

// Thread: one owner, the compute thread.
class RankSession {
 public:
  // All ranks of the shape begin together, each in a process that a launcher has started; one rank is alone.
  // `end_process` is called by the control thread when another rank is lost and the compute thread of this
  // one does not come back; it does not return. Errors: those of make_mpi_fabric and Mesh::create.
  static Result<std::unique_ptr<RankSession>> begin(const MeshShape& shape,
                                                    std::function<void(int code)> end_process);

  Mesh& mesh() { return *mesh_; }
  RankPulse& pulse() { return control_ ? control_->pulse() : alone_; }

  // What to do before this process is ended because its compute thread does not come back: with the reason.
  // Called by the control thread; what it needs has to live until another one, or none, takes its place. That
  // waits for the call to end.
  void set_last_words(std::function<void(const Status& why)> words);

  // To be called at the end of the work, however it went; see Control::leave. Returns what is to be reported:
  // how the work ended, or else why the mesh was closed.
  Status leave(const Status& how);

 private:
  RankSession() = default;

  struct LastWords {
    std::mutex mutex;
    std::function<void(const Status& why)> say;
  };

  RankPulse alone_;
  std::shared_ptr<LastWords> last_words_ = std::make_shared<LastWords>();
  std::unique_ptr<Mesh> mesh_;
  std::unique_ptr<Control> control_;  // null: alone
};

}  // namespace lockstep
