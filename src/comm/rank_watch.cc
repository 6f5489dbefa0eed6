#include "comm/rank_watch.h"

#include <algorithm>
#include <map>

#include "base/fault.h"
#include "diag/table.h"

namespace lockstep {
namespace {

std::string seconds(int64_t ns) { return fixed(static_cast<double>(ns) * 1e-9, 1) + " s"; }

bool same_place(const Beat& a, const Beat& b) {
  return a.phase == b.phase && a.epoch == b.epoch && a.entered == b.entered && a.work == b.work &&
         a.inside == b.inside;
}

}  // namespace

RankWatch::RankWatch(const MeshShape& shape, int32_t rank, const WatchLimits& limits)
    : shape_(shape), rank_(rank), limits_(limits), ranks_(static_cast<size_t>(shape.world())) {}

void RankWatch::heard(const Beat& beat, int64_t now_ns) {
  if (beat.rank < 0 || beat.rank >= shape_.world()) return;
  Rank& rank = ranks_[static_cast<size_t>(beat.rank)];
  if (rank.left()) return;  // a late beat from before its farewell
  const bool moved = !rank.known || !same_place(rank.beat, beat);
  rank.still = moved ? 0 : rank.still + std::min(now_ns - rank.heard_at, 2 * limits_.beat);
  rank.beat = beat;
  rank.heard_at = now_ns;
  rank.silent = 0;
  rank.known = true;
}

bool RankWatch::everybody_left() const {
  return std::all_of(ranks_.begin(), ranks_.end(), [](const Rank& rank) { return rank.left(); });
}

// One rank speaks for all, so that all say the same; the next ones do so when it does not.
bool RankWatch::first_living() const {
  for (int32_t rank = 0; rank < rank_; ++rank) {
    const Rank& other = ranks_[static_cast<size_t>(rank)];
    if (!other.left() && other.silent < limits_.silence) return false;
  }
  return true;
}

std::optional<Notice> RankWatch::look(int64_t now_ns) {
  const int64_t awake = looked_at_ == 0 ? 0 : std::min(now_ns - looked_at_, 2 * limits_.beat);
  looked_at_ = now_ns;
  std::vector<int32_t> silent, stuck, waiting;
  bool all_wait = true;
  const int64_t turn = first_living() ? 0 : limits_.turn;
  int64_t longest_silence = 0, shortest_wait = INT64_MAX;
  for (int32_t i = 0; i < shape_.world(); ++i) {
    Rank& rank = ranks_[static_cast<size_t>(i)];
    if (rank.left()) continue;
    if (i != rank_) rank.silent += awake;
    if (rank.silent >= limits_.silence + turn) {
      silent.push_back(i);
      longest_silence = std::max(longest_silence, rank.silent);
    }
    const bool waits = rank.beat.inside && rank.in_step();
    all_wait = all_wait && waits;
    if (waits) shortest_wait = std::min(shortest_wait, rank.still);
    if (rank.still < limits_.stuck + turn || !rank.in_step()) continue;
    (rank.beat.inside ? waiting : stuck).push_back(i);
  }
  if (!silent.empty()) {
    return verdict(silent, "silent for " + seconds(longest_silence),
                   "a sign of life within " + seconds(limits_.silence));
  }
  if (!waiting.empty() && !stuck.empty()) {
    return verdict(stuck,
                   concat("outside of every collective without getting on, while ", names(waiting),
                          waiting.size() == 1 ? " waits" : " wait"),
                   "work or a collective within " + seconds(limits_.stuck));
  }
  if (!all_wait || shortest_wait == INT64_MAX || shortest_wait < limits_.stuck + turn) return std::nullopt;
  if (const std::optional<Notice> difference = disagreement()) return difference;
  if (shortest_wait < limits_.exchange + turn) return std::nullopt;
  return verdict({}, "without end: every rank is within a collective",
                 "the end of one within " + seconds(limits_.exchange));
}

// Ranks run one program, so the same number in two ledgers is the same collective.
std::optional<Notice> RankWatch::disagreement() const {
  std::map<uint64_t, std::map<std::string, std::vector<int32_t>>> said;  // number: what: who
  for (const Rank& rank : ranks_) {
    for (uint32_t e = 0; !rank.left() && e < rank.beat.entries; ++e)
      said[rank.beat.last[e].sequence][name_of(rank.beat.last[e])].push_back(rank.beat.rank);
  }
  for (const auto& [number, what] : said) {
    if (what.size() == 1) continue;
    std::string found;
    for (const auto& [text, who] : what) found += concat(found.empty() ? "" : "; ", text, " on ", names(who));
    const Fault fault{.check = "G1",
                      .moment = Moment::kGroup,
                      .consumer = "",
                      .field = concat("collective ", number),
                      .row = -1,
                      .rank = what.begin()->second.front(),
                      .step = newest_step(),
                      .expected = "the same on all ranks",
                      .found = found};
    return notice(Code::kInternal, fault, {});
  }
  return std::nullopt;
}

uint64_t RankWatch::newest_step() const {
  uint64_t step = 0;
  for (const Rank& rank : ranks_) step = std::max(step, rank.beat.epoch);
  return step;
}

Notice RankWatch::verdict(const std::vector<int32_t>& missing, const std::string& found,
                          const std::string& expected) const {
  const Fault fault{.check = "G1",
                    .moment = Moment::kGroup,
                    .consumer = missing.empty() ? "" : names(missing),
                    .field = "participation",
                    .row = -1,
                    .rank = missing.empty() ? rank_ : missing.front(),
                    .step = newest_step(),
                    .expected = expected,
                    .found = found};
  return notice(Code::kDevice, fault, missing);
}

Notice RankWatch::notice(Code code, const Fault& fault, const std::vector<int32_t>& missing) const {
  const std::string message = fault.message();
  return {.from = rank_,
          .status = Status(code, message, std::make_shared<const Fault>(fault)),
          .report = report(missing, message)};
}

// "rank 2 (dp 1, tp 0)", with the degrees that there are.
std::string RankWatch::name(int32_t rank) const {
  const MeshPlace place = place_of(shape_, rank);
  std::string inside;
  const auto add = [&inside](std::string_view what, int32_t degree, int32_t index) {
    if (degree > 1) inside += concat(inside.empty() ? "" : ", ", what, " ", index);
  };
  add("dp", shape_.dp, place.dp);
  add("cp", shape_.cp, place.cp);
  add("tp", shape_.tp, place.tp);
  return concat("rank ", rank, inside.empty() ? "" : " (" + inside + ")");
}

std::string RankWatch::names(const std::vector<int32_t>& ranks) const {
  std::string text;
  for (const int32_t rank : ranks) text += (text.empty() ? "" : ", ") + name(rank);
  return text;
}

// Per collective that somebody is in: who is, and which of the missing are not.
std::string RankWatch::who_waits(const std::vector<int32_t>& missing) const {
  std::map<std::string, std::vector<int32_t>> within;
  for (int32_t i = 0; i < shape_.world(); ++i) {
    const Beat& beat = ranks_[static_cast<size_t>(i)].beat;
    const bool known_missing = std::find(missing.begin(), missing.end(), i) != missing.end();
    if (beat.inside && !known_missing) within[text_of(beat.last[beat.entries - 1])].push_back(i);
  }
  std::string text;
  for (const auto& [collective, members] : within) {
    text += concat("in ", collective, ": ", names(members),
                   missing.empty() ? "" : "; missing: " + names(missing), "\n");
  }
  return text;
}

std::string RankWatch::report(const std::vector<int32_t>& missing, const std::string& first_line) const {
  Table table({{"rank", Align::kLeft},
               {"last heard"},
               {"phase", Align::kLeft},
               {"step"},
               {"unmoved for"},
               {"last collectives, newest last", Align::kLeft}});
  for (int32_t i = 0; i < shape_.world(); ++i) {
    const Rank& rank = ranks_[static_cast<size_t>(i)];
    if (!rank.known) {
      table.row({name(i), "never", "", "", "", ""});
      continue;
    }
    std::string last;
    for (uint32_t e = 0; e < rank.beat.entries; ++e) {
      const BeatEntry& entry = rank.beat.last[e];
      last += concat(last.empty() ? "" : ", ", text_of(entry), entry.finished ? "" : " in it");
    }
    table.row({name(i), seconds(rank.silent) + " ago", std::string(name_of(rank.beat.phase)),
               std::to_string(rank.beat.epoch), seconds(rank.still), last});
  }
  return concat(first_line, "\n", table.text(), who_waits(missing));
}

}  // namespace lockstep
