// Control: a rank's second thread, which tells the others that this rank lives and how far it is, listens to
// them, and closes the mesh when one of them is dead, stuck or has failed. It has a channel of its own, since
// the compute thread may be within a collective that never ends.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include "comm/control_channel.h"
#include "comm/rank_watch.h"

namespace lockstep {

// Where the compute thread says what it does. Relaxed stores of one writer: no cost, no waiting.
struct RankPulse {
  std::atomic<uint64_t> work{0};  // grows with everything done: launches, files read
  std::atomic<RankPhase> phase{RankPhase::kStarting};
};

struct ControlOptions {
  MeshShape shape;
  WatchLimits limits;
  std::function<void(const Status&)> fail;      // closes the mesh, so that collectives end
  std::function<void(const std::string&)> say;  // a report of several lines, to whoever looks after the ranks
  std::function<void(const Status&)> end;       // ends the process: its compute thread did not come back
  std::function<void(const Status&)> last{};  // before that, and before anything is waited for; null: nothing
  int64_t grace = 1'000'000'000;  // ns that the compute thread has to come back after the mesh was closed
};

// Thread: made and ended by the compute thread; the functions of the options are called by its own.
// Every rank of the shape has one. Cost: a message to each other rank per beat, read every fifth of a beat.
class Control {
 public:
  // The ledger outlives it, as does what the options refer to.
  Control(std::unique_ptr<ControlChannel> channel, const Ledger& ledger, ControlOptions options);
  ~Control();  // leaves without a word if nobody left before: the others take this rank for dead then
  Control(const Control&) = delete;
  Control& operator=(const Control&) = delete;

  RankPulse& pulse() { return pulse_; }

  // The end of this rank's work. With ok: says good-bye and waits until all ranks have, so that nobody takes
  // a rank that is done for one that is dead. With a failure: tells the others, whose meshes close with it.
  // Returns why the mesh was closed, by whichever rank first; ok when it never was.
  Status leave(const Status& how);

 private:
  void run(const std::stop_token& stop);
  void beat();
  void listen();
  void close(const Notice& notice, bool mine);
  void send_all(const ControlMessage& message);
  void end_if_stuck();
  bool awaits_verdict();

  const std::unique_ptr<ControlChannel> channel_;
  const Ledger& ledger_;
  const ControlOptions options_;
  RankPulse pulse_;
  RankWatch watch_;        // of the control thread
  int64_t beat_at_ = 0;    // likewise
  int64_t closed_at_ = 0;  // likewise; 0: the mesh is open
  int64_t failed_at_ = 0;  // likewise; 0: the compute thread has not failed

  std::mutex mutex_;
  std::condition_variable_any changed_;
  Status closed_;         // why the mesh was closed
  Status failed_;         // what the compute thread left with, to be told
  bool leaving_ = false;  // the compute thread is in leave(), or has been
  bool left_ = false;     // nothing more is to be said or heard
  std::jthread thread_;
};

}  // namespace lockstep
