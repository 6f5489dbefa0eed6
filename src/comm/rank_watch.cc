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
  ++rank.beats;
}

bool RankWatch::everybody_left() const {
  return std::all_of(ranks_.begin(), ranks_.end(), [](const Rank& rank) { return rank.left(); });
}

// Lets the time pass that this rank was awake for.
RankWatch::Judged RankWatch::sort_ranks(int64_t awake) {
  Judged found;
  for (int32_t i = 0; i < shape_.world(); ++i) {
    Rank& rank = ranks_[static_cast<size_t>(i)];
    if (rank.left()) continue;
    if (i != rank_) rank.silent += awake;
    if (rank.silent >= limits_.silence) {
      found.silent.push_back(i);
      found.longest_silence = std::max(found.longest_silence, rank.silent);
    }
    found.all_wait = found.all_wait && rank.beat.inside;
    if (rank.beat.inside) found.shortest_wait = std::min(found.shortest_wait, rank.still);
    if (rank.still < limits_.stuck || !rank.in_step()) continue;
    (rank.beat.inside ? found.waiting : found.stuck).push_back(i);
  }
  return found;
}

std::optional<Notice> RankWatch::judge(const Judged& found) const {
  if (!found.silent.empty()) {
    return verdict(found.silent, "silent for " + seconds(found.longest_silence),
                   "a sign of life within " + seconds(limits_.silence));
  }
  if (!found.waiting.empty() && !found.stuck.empty()) {
    return verdict(found.stuck,
                   concat("outside of every collective without getting on, while ", names(found.waiting),
                          found.waiting.size() == 1 ? " waits" : " wait"),
                   "work or a collective within " + seconds(limits_.stuck));
  }
  // Nobody is outside, so nobody who could come, whatever phase they say.
  if (!found.all_wait || found.shortest_wait == INT64_MAX || found.shortest_wait < limits_.deadlock)
    return std::nullopt;
  if (const std::vector<int32_t> ranks = deadlocked(); !ranks.empty()) return disagreement(ranks);
  if (found.shortest_wait < limits_.exchange) return std::nullopt;
  return verdict({}, "without end: every rank is within a collective",
                 "the end of one within " + seconds(limits_.exchange));
}

// One rank speaks for all, so that all say the same: the first that lives. The next one does so when that one
// goes on beating and finds nothing. Its beats are its clock: on a crowded machine it may be awake for less
// than this rank, and comes to its verdict later, but with the same number of beats.
bool RankWatch::my_turn() {
  int32_t first = 0;
  while (first < rank_ && (ranks_[static_cast<size_t>(first)].left() ||
                           ranks_[static_cast<size_t>(first)].silent >= limits_.silence))
    ++first;
  if (first == rank_) return true;
  const int64_t beats = ranks_[static_cast<size_t>(first)].beats;
  if (speaker_ != first) {
    speaker_ = first;
    speaker_beats_ = beats;
  }
  return beats - speaker_beats_ >= limits_.turn / limits_.beat;
}

std::optional<Notice> RankWatch::look(int64_t now_ns) {
  const int64_t awake = looked_at_ == 0 ? 0 : std::min(now_ns - looked_at_, 2 * limits_.beat);
  looked_at_ = now_ns;
  std::optional<Notice> found = judge(sort_ranks(awake));
  if (!found) speaker_ = -1;
  if (!found || !my_turn()) return std::nullopt;
  return found;
}

// Whether that member of its group has come to the collective that the rank is in.
bool RankWatch::has_come(int32_t member, const Rank& rank) const {
  const Beat& beat = ranks_[static_cast<size_t>(member)].beat;
  return std::any_of(beat.last.begin(), beat.last.begin() + beat.entries, [&](const BeatEntry& entry) {
    return entry.group == rank.newest().group && entry.number >= rank.newest().number;
  });
}

// Where all ranks are within collectives: those that can never get on. A rank can when everybody is there
// whom its collective needs, or those who are not can get on themselves, and may still come.
std::vector<int32_t> RankWatch::deadlocked() const {
  std::vector<bool> free(ranks_.size(), false);
  for (bool changed = true; changed;) {
    changed = false;
    for (size_t i = 0; i < ranks_.size(); ++i) {
      if (free[i] || ranks_[i].left()) continue;
      const auto members = group_members(shape_, ranks_[i].newest().group.data(), static_cast<int32_t>(i));
      free[i] = std::all_of(members.begin(), members.end(), [&](int32_t member) {
        return free[static_cast<size_t>(member)] || has_come(member, ranks_[i]);
      });
      changed = changed || free[i];
    }
  }
  std::vector<int32_t> ranks;
  for (size_t i = 0; i < ranks_.size(); ++i) {
    if (!free[i] && !ranks_[i].left()) ranks.push_back(static_cast<int32_t>(i));
  }
  return ranks;
}

Notice RankWatch::disagreement(const std::vector<int32_t>& ranks) const {
  std::map<std::string, std::vector<int32_t>> said;
  for (const int32_t i : ranks) said[text_of(ranks_[static_cast<size_t>(i)].newest())].push_back(i);
  for (int32_t i = 0; i < shape_.world(); ++i) {
    if (ranks_[static_cast<size_t>(i)].left()) said["nothing more"].push_back(i);
  }
  std::string found;
  for (const auto& [text, who] : said) found += concat(found.empty() ? "" : "; ", text, " on ", names(who));
  const Fault fault{.check = "G1",
                    .moment = Moment::kGroup,
                    .consumer = "",
                    .field = "collective",
                    .row = -1,
                    .rank = said.begin()->second.front(),
                    .step = newest_step(),
                    .expected = "one that all ranks of its group enter",
                    .found = found};
  return notice(Code::kInternal, fault, {});
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
    if (beat.inside && !known_missing) within[text_of(ranks_[static_cast<size_t>(i)].newest())].push_back(i);
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
