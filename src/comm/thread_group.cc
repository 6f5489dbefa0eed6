#include "comm/thread_group.h"

#include <string>

#include "base/check.h"
#include "base/fault.h"

namespace lockstep {

ThreadGroup::ThreadGroup(int32_t ranks, std::chrono::milliseconds deadline)
    : ranks_(ranks), deadline_(deadline) {
  LS_CHECK(ranks > 0, "a group of ", ranks, " ranks");
  round_ = new_round();
}

std::shared_ptr<ThreadGroup::Round> ThreadGroup::new_round() const {
  auto round = std::make_shared<Round>();
  round->brought.resize(static_cast<size_t>(ranks_));
  round->arrived.resize(static_cast<size_t>(ranks_));
  round->missing = ranks_;
  return round;
}

Result<std::vector<std::byte>> ThreadGroup::exchange(int32_t rank, std::span<const std::byte> bytes) {
  LS_CHECK(rank >= 0 && rank < ranks_, "rank ", rank, " of ", ranks_);
  const auto deadline = std::chrono::steady_clock::now() + deadline_;
  std::unique_lock lock(mutex_);
  if (!closed_.ok()) return closed_;
  const std::shared_ptr<Round> round = round_;
  LS_CHECK(!round->arrived[static_cast<size_t>(rank)], "rank ", rank, " is at exchange ", number_, " twice");
  round->brought[static_cast<size_t>(rank)].assign(bytes.begin(), bytes.end());
  round->arrived[static_cast<size_t>(rank)] = true;
  if (--round->missing == 0) {
    closed_ = finish(*round);
    changed_.notify_all();
  }
  const bool over = changed_.wait_until(lock, deadline, [&] { return round->whole || !closed_.ok(); });
  if (!over) {
    closed_ = absent(*round);
    changed_.notify_all();
  }
  // An exchange that everybody came to stays good, even if a later one has failed by now.
  if (!round->whole) return closed_;
  return round->all;
}

// Everybody is here: puts the parts together and opens the next exchange.
Status ThreadGroup::finish(Round& round) {
  for (int32_t rank = 0; rank < ranks_; ++rank) {
    const std::vector<std::byte>& part = round.brought[static_cast<size_t>(rank)];
    if (part.size() != round.brought[0].size()) {
      LS_TRY(broken({.check = "G1",
                     .moment = Moment::kGroup,
                     .consumer = "",
                     .field = concat("exchange ", number_),
                     .row = -1,
                     .rank = rank,
                     .step = 0,
                     .expected = concat(round.brought[0].size(), ", as from rank 0"),
                     .found = concat(part.size(), " bytes from rank ", rank)}));
    }
    round.all.insert(round.all.end(), part.begin(), part.end());
  }
  round.whole = true;
  round_ = new_round();
  ++number_;
  return {};
}

Status ThreadGroup::absent(const Round& round) const {
  std::string who;
  int32_t first = -1;
  for (int32_t rank = 0; rank < ranks_; ++rank) {
    if (round.arrived[static_cast<size_t>(rank)]) continue;
    if (first >= 0) who += ", ";
    who += concat("rank ", rank);
    if (first < 0) first = rank;
  }
  Fault fault{.check = "G1",
              .moment = Moment::kGroup,
              .consumer = "",
              .field = "participation",
              .row = -1,
              .rank = first,
              .step = 0,
              .expected = concat("all ", ranks_, " ranks within ", deadline_.count(), " ms"),
              .found = concat("without ", who, " at exchange ", number_)};
  std::string message = concat(who, " did not arrive at exchange ", number_, "; expected ", fault.expected,
                               "; the group is closed");
  // A rank that is not there cannot be passed over; without the rule nobody says which it was.
  if (!rule_is_on(fault.check)) return error(Code::kDevice, "exchange ", number_, " timed out");
  return {Code::kDevice, std::move(message), std::make_shared<const Fault>(std::move(fault))};
}

}  // namespace lockstep
