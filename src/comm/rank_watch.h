// RankWatch: from signs of life to the judgement that a rank is dead or stuck. Pure: no threads, no clock of
// its own, nothing is sent; Control is the thread around it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "comm/control_message.h"
#include "comm/mesh.h"

namespace lockstep {

// All in nanoseconds. The defaults name a dead or stuck rank within 10 s on a machine with four times as many
// ranks as cores.
struct WatchLimits {
  int64_t beat = 250'000'000;        // between two signs of life of a rank
  int64_t silence = 5'000'000'000;   // without one a rank is dead
  int64_t stuck = 5'000'000'000;     // so long others may wait for a rank that does not get on
  int64_t deadlock = 2'000'000'000;  // so long all may be within collectives that wait for each other
  int64_t exchange = 8'000'000'000;  // so long all ranks may be within collectives, none of which ends
  int64_t turn = 3'000'000'000;      // how much longer ranks wait for the verdict of the first living one,
                                     // in time of its own: as many of its beats as fall into this
};

// A rank is *dead* when nothing is heard of it, *stuck* when it is heard, is in a step but in no collective,
// and has not moved while others wait in one. Getting on is whatever counts as work (a launch that ends) or
// enters the ledger, so a rank that computes for long is not stuck, nor one that loads or is idle.
// Time counts only as far as this rank itself was awake for it: at most two beats between two looks, or
// between two beats of another rank. On a crowded machine everybody is late, and nobody dead.
class RankWatch {
 public:
  RankWatch(const MeshShape& shape, int32_t rank, const WatchLimits& limits);

  // A beat of any rank, this one included.
  void heard(const Beat& beat, int64_t now_ns);
  // To be called about as often as beats are sent. A verdict is kDevice with a fault (G1, participation)
  // where a rank is missing, kInternal (G1) where ranks wait for each other in different collectives.
  std::optional<Notice> look(int64_t now_ns);

  bool everybody_left() const;

 private:
  struct Rank {
    Beat beat;
    int64_t heard_at = 0;
    int64_t silent = 0;  // awake time since it was heard
    int64_t still = 0;   // so long it has been saying the same
    bool known = false;  // heard at least once
    int64_t beats = 0;   // heard so far
    bool left() const { return beat.phase == RankPhase::kLeft; }
    const BeatEntry& newest() const { return beat.last[beat.entries - 1]; }
    bool in_step() const {
      return beat.phase == RankPhase::kPrefill || beat.phase == RankPhase::kDecode ||
             beat.phase == RankPhase::kReplay;
    }
  };
  struct Judged {
    std::vector<int32_t> silent, stuck, waiting;
    int64_t longest_silence = 0;
    int64_t shortest_wait = INT64_MAX;  // of ranks in collectives
    bool all_wait = true;
  };
  Judged sort_ranks(int64_t awake);
  std::optional<Notice> judge(const Judged& found) const;
  bool my_turn();
  Notice verdict(const std::vector<int32_t>& missing, const std::string& found,
                 const std::string& expected) const;
  std::vector<int32_t> deadlocked() const;
  bool has_come(int32_t member, const Rank& rank) const;
  Notice disagreement(const std::vector<int32_t>& ranks) const;
  Notice notice(Code code, const Fault& fault, const std::vector<int32_t>& missing) const;
  uint64_t newest_step() const;
  std::string name(int32_t rank) const;
  std::string names(const std::vector<int32_t>& ranks) const;
  std::string report(const std::vector<int32_t>& missing, const std::string& first_line) const;
  std::string who_waits(const std::vector<int32_t>& missing) const;

  MeshShape shape_;
  int32_t rank_;
  WatchLimits limits_;
  int64_t looked_at_ = 0;      // 0: not yet
  int32_t speaker_ = -1;       // whose verdict this rank waits for, having one itself; -1: it has none
  int64_t speaker_beats_ = 0;  // heard of it when the waiting began
  std::vector<Rank> ranks_;
};

}  // namespace lockstep
