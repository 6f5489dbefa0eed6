#include "guard/record_merge.h"

#include <algorithm>
#include <deque>
#include <map>
#include <set>

namespace lockstep {
namespace {

template <typename Entry>
void append(std::vector<Entry>& all, std::vector<Entry>&& more) {
  all.insert(all.end(), std::make_move_iterator(more.begin()), std::make_move_iterator(more.end()));
}

// Gives every collective its place: a walk along the ranks' ledgers that passes a collective once all of its
// entries are next on their ranks. Ranks that wait for each other in a circle, which no run leaves behind but
// a file may say, are let through one at a time.
class Walk {
 public:
  explicit Walk(const Record& record) : record_(record) {
    std::map<std::pair<size_t, uint64_t>, size_t> known;  // by group and number
    for (const LedgerEntry& entry : record.ledger) lanes_[entry.rank].entries.push_back({&entry, 0});
    for (auto& [rank, lane] : lanes_) {
      std::stable_sort(lane.entries.begin(), lane.entries.end(),
                       [](const Place& a, const Place& b) { return a.entry->sequence < b.entry->sequence; });
      for (Place& place : lane.entries) {
        const size_t next = meetings_.size();
        const bool numbered = place.entry->number > 0;
        place.meeting =
            numbered
                ? known.emplace(std::pair(group_of(*place.entry), place.entry->number), next).first->second
                : next;
        if (place.meeting == next) meetings_.push_back({.meeting = begin(*place.entry)});
        ++meetings_[place.meeting].expected;
      }
    }
  }

  std::vector<Meeting> run() {
    for (auto& [rank, lane] : lanes_) arrive(rank, lane);
    while (!waiting_.empty()) {
      if (ready_.empty()) split(lanes_.at(*waiting_.begin()));
      const size_t passed = ready_.front();
      ready_.pop_front();
      pass(passed);
    }
    std::vector<Meeting> all;
    for (Open& open : meetings_) {
      if (!open.meeting.entered.empty()) all.push_back(std::move(open.meeting));
    }
    std::stable_sort(all.begin(), all.end(), [](const Meeting& a, const Meeting& b) {
      const auto key = [](const Meeting& m) {
        return std::tuple(m.order, m.entered[0]->epoch, m.group, m.entered[0]->rank, m.number);
      };
      return key(a) < key(b);
    });
    return all;
  }

 private:
  struct Place {
    const LedgerEntry* entry = nullptr;
    size_t meeting = 0;
  };
  struct Lane {
    std::vector<Place> entries;  // of one rank, as it entered them
    size_t next = 0;
    uint64_t order = 0;  // of the one passed last
  };
  struct Open {
    Meeting meeting;
    size_t expected = 0;         // entries, on all ranks
    std::vector<int32_t> ranks;  // that are at it
  };

  // Ranks whose groups of one name have the same members are in one group.
  size_t group_of(const LedgerEntry& entry) {
    const auto [at, first] = groups_of_ranks_.try_emplace({entry.rank, entry.group}, 0);
    if (!first) return at->second;
    const std::span<const int32_t> members = members_of_group(record_, entry.rank, entry.group);
    std::vector<int32_t> key(members.begin(), members.end());
    if (key.empty()) key.push_back(entry.rank);
    return at->second = groups_.try_emplace({entry.group, std::move(key)}, groups_.size()).first->second;
  }
  Meeting begin(const LedgerEntry& entry) const {
    return {.group = entry.group,
            .number = entry.number,
            .entered = {},
            .members = members_of_group(record_, entry.rank, entry.group)};
  }

  void arrive(int32_t rank, Lane& lane) {
    if (lane.next == lane.entries.size()) {
      waiting_.erase(rank);
      return;
    }
    waiting_.insert(rank);
    const size_t at = lane.entries[lane.next].meeting;
    meetings_[at].ranks.push_back(rank);
    if (meetings_[at].ranks.size() == meetings_[at].expected) ready_.push_back(at);
  }
  // Those who are at the lane's collective pass it by themselves; the rest of it is another one.
  void split(Lane& lane) {
    const size_t at = lane.entries[lane.next].meeting;
    Open here{.meeting = begin(*lane.entries[lane.next].entry), .ranks = std::move(meetings_[at].ranks)};
    here.expected = here.ranks.size();
    meetings_[at].ranks.clear();
    meetings_[at].expected -= here.expected;
    for (const int32_t rank : here.ranks) {
      Lane& each = lanes_.at(rank);
      each.entries[each.next].meeting = meetings_.size();
    }
    ready_.push_back(meetings_.size());
    meetings_.push_back(std::move(here));
  }
  void pass(size_t at) {
    const std::vector<int32_t> ranks = std::move(meetings_[at].ranks);
    Meeting& meeting = meetings_[at].meeting;
    for (const int32_t rank : ranks) meeting.order = std::max(meeting.order, lanes_.at(rank).order + 1);
    for (const int32_t rank : ranks) {
      Lane& lane = lanes_.at(rank);
      lane.order = meeting.order;
      meeting.entered.push_back(lane.entries[lane.next++].entry);
    }
    std::sort(meeting.entered.begin(), meeting.entered.end(),
              [](const LedgerEntry* a, const LedgerEntry* b) { return a->rank < b->rank; });
    for (const int32_t rank : ranks) arrive(rank, lanes_.at(rank));
  }

  const Record& record_;
  std::map<std::pair<int32_t, std::string_view>, size_t> groups_of_ranks_;
  std::map<std::pair<std::string_view, std::vector<int32_t>>, size_t> groups_;
  std::map<int32_t, Lane> lanes_;
  std::vector<Open> meetings_;
  std::deque<size_t> ready_;
  std::set<int32_t> waiting_;  // lanes that have not come to their end
};

size_t ranks_of_job(const RankEntry& rank) {
  size_t most = 1;
  for (const GroupEntry& group : rank.groups) most = std::max(most, group.ranks.size());
  return most;
}

Status check_ranks(const std::vector<Record>& records) {
  std::set<int32_t> ranks;
  const RankEntry* first = nullptr;
  for (const Record& record : records) {
    for (const RankEntry& entry : record.ranks) {
      if (!ranks.insert(entry.rank).second) {
        return error(Code::kInvalidArgument, "records: rank ", entry.rank,
                     " comes twice; expected one record of each rank");
      }
      if (first == nullptr) first = &entry;
      if (ranks_of_job(entry) != ranks_of_job(*first)) {
        return error(Code::kInvalidArgument, "records: rank ", entry.rank, " is of a job of ",
                     ranks_of_job(entry), " ranks; expected ", ranks_of_job(*first), " as of rank ",
                     first->rank, "; give records of one run");
      }
    }
  }
  return {};
}

void put_in_order(Record& record) {
  std::stable_sort(record.ranks.begin(), record.ranks.end(),
                   [](const RankEntry& a, const RankEntry& b) { return a.rank < b.rank; });
  std::stable_sort(record.steps.begin(), record.steps.end(), [](const StepEntry& a, const StepEntry& b) {
    return std::tie(a.epoch, a.rank) < std::tie(b.epoch, b.rank);
  });
  std::stable_sort(record.faults.begin(), record.faults.end(), [](const FaultEntry& a, const FaultEntry& b) {
    return std::tie(a.told, a.fault.step, a.on_rank) < std::tie(b.told, b.fault.step, b.on_rank);
  });
  std::vector<LedgerEntry> ordered;
  ordered.reserve(record.ledger.size());
  for (const Meeting& meeting : meetings_of(record)) {
    for (const LedgerEntry* entry : meeting.entered) {
      ordered.push_back(*entry);
      ordered.back().order = meeting.order;
    }
  }
  record.ledger = std::move(ordered);
}

}  // namespace

Result<Record> merge(std::vector<Record> records) {
  LS_TRY(check_ranks(records));
  Record all;
  for (Record& record : records) {
    append(all.ranks, std::move(record.ranks));
    append(all.steps, std::move(record.steps));
    append(all.bindings, std::move(record.bindings));
    append(all.ledger, std::move(record.ledger));
    append(all.faults, std::move(record.faults));
    append(all.launches, std::move(record.launches));
    append(all.findings, std::move(record.findings));
    append(all.first_bad_launch, std::move(record.first_bad_launch));
    append(all.rerun, std::move(record.rerun));
    append(all.times, std::move(record.times));
  }
  put_in_order(all);
  return all;
}

std::vector<Meeting> meetings_of(const Record& record) { return Walk(record).run(); }

LaunchClock::LaunchClock(const Record& record) {
  for (const LaunchEntry& launch : record.launches) {
    if (launch.at.collective) collectives_[{launch.at.rank, launch.at.step}].push_back(launch.at.order);
  }
  for (auto& [where, orders] : collectives_) std::sort(orders.begin(), orders.end());
}

LaunchTime LaunchClock::time_of(const LaunchPlace& place) const {
  LaunchTime time{.step = place.step, .order = place.order};
  const auto found = collectives_.find({place.rank, place.step});
  if (found == collectives_.end()) return time;
  const std::vector<int32_t>& orders = found->second;
  time.collectives = std::lower_bound(orders.begin(), orders.end(), place.order) - orders.begin();
  return time;
}

}  // namespace lockstep
