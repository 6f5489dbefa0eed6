// Answers about ranks: what they did side by side, which one it was, and what went from one to another.
#include <algorithm>
#include <map>
#include <set>

#include "explain/explain_context.h"

namespace lockstep {
namespace {

constexpr size_t kMostListed = 10;   // collectives in a table
constexpr size_t kMostDrawn = 64;    // in a picture
constexpr size_t kMostNamed = 1024;  // ranks without a record; a file may claim any number

Answer ask(std::string id, std::string question) {
  return {.id = std::move(id), .question = std::move(question), .answer = "not recorded"};
}

std::string call_text(const LedgerEntry& entry) {
  return concat(entry.op, " of ", entry.count, " ", entry.dtype);
}

std::string name_of_meeting(const Meeting& meeting) {
  return meeting.number > 0 ? concat("collective ", meeting.number, " of ", meeting.group)
                            : concat("a collective of ", meeting.group);
}

bool differs(const Meeting& meeting) {
  return std::any_of(meeting.entered.begin(), meeting.entered.end(), [&](const LedgerEntry* entry) {
    return call_text(*entry) != call_text(*meeting.entered[0]);
  });
}

// The number of the newest collective of its group that a rank entered; 0: none.
uint64_t last_of_group(const ExplainContext& context, int32_t rank, std::string_view group) {
  const auto found = context.last_entered.find({rank, group});
  return found == context.last_entered.end() ? 0 : found->second;
}

// Members of the group that have not come, though somebody waits. A collective that has ended somewhere had
// everybody; a recorder that was read before says nothing about it. Where all who are recorded have come,
// those who are not are missed.
std::vector<int32_t> missing(const ExplainContext& context, const Meeting& meeting) {
  std::vector<int32_t> ranks, unrecorded;
  const bool ended = std::any_of(meeting.entered.begin(), meeting.entered.end(),
                                 [](const LedgerEntry* entry) { return entry->finished; });
  if (ended || meeting.number == 0) return ranks;
  for (const int32_t rank : meeting.members) {
    const bool came = std::any_of(meeting.entered.begin(), meeting.entered.end(),
                                  [&](const LedgerEntry* entry) { return entry->rank == rank; });
    if (came || last_of_group(context, rank, meeting.group) >= meeting.number) continue;
    (rank_entry(context.record, rank) != nullptr ? ranks : unrecorded).push_back(rank);
  }
  return ranks.empty() ? unrecorded : ranks;
}

// The first collective that ranks entered differently, or that some of them never entered.
std::string first_difference(const ExplainContext& context) {
  for (const Meeting& meeting : context.meetings) {
    const LedgerEntry& said = *meeting.entered[0];
    const std::string who =
        concat(name_of_meeting(meeting), ": rank ", said.rank, " entered ", call_text(said));
    for (const LedgerEntry* entry : meeting.entered) {
      if (call_text(*entry) != call_text(said))
        return concat(who, ", rank ", entry->rank, " entered ", call_text(*entry));
    }
    const std::vector<int32_t> absent = missing(context, meeting);
    if (absent.empty()) continue;
    const uint64_t last = last_of_group(context, absent[0], meeting.group);
    return concat(who, ", ", names_of(absent),
                  context.record.faults.empty() ? " had not come when it was recorded" : " never came",
                  last > 0 ? concat("; the last there was ", last) : "");
  }
  return "";
}

const LedgerEntry* last_collective(const Record& record, int32_t rank) {
  const LedgerEntry* last = nullptr;
  for (const LedgerEntry& entry : record.ledger) {
    if (entry.rank == rank && (last == nullptr || entry.sequence > last->sequence)) last = &entry;
  }
  return last;
}

std::string last_text(const Record& record, int32_t rank) {
  const LedgerEntry* last = last_collective(record, rank);
  if (last == nullptr) return "-";
  return concat(last->group, " ", last->number, ": ", call_text(*last), last->finished ? "" : ", in it");
}

EvidenceTable last_meetings(const ExplainContext& context) {
  EvidenceTable table{.title = "the last collectives, in the order of all ranks",
                      .columns = {"order", "step", "group", "number", "what", "where", "ranks", "missing"},
                      .right = {true, true, false, true, false, false, false, false}};
  const size_t count = context.meetings.size();
  for (size_t m = count - std::min(count, kMostListed); m < count; ++m) {
    const Meeting& meeting = context.meetings[m];
    std::string what, ranks, absent;
    std::set<std::string> calls;
    for (const LedgerEntry* entry : meeting.entered) {
      if (calls.insert(call_text(*entry)).second) what += (what.empty() ? "" : " / ") + call_text(*entry);
      ranks += concat(ranks.empty() ? "" : ", ", entry->rank);
    }
    for (const int32_t rank : missing(context, meeting)) absent += concat(absent.empty() ? "" : ", ", rank);
    table.rows.push_back({concat(meeting.order), concat(meeting.entered[0]->epoch),
                          std::string(meeting.group), concat(meeting.number), what, meeting.entered[0]->where,
                          ranks, absent});
  }
  return table;
}

std::string plan_word(const PlanVerdict& verdict) {
  if (verdict.kind == PlanVerdict::Kind::kNotRecorded) return "not recorded";
  return verdict.kind == PlanVerdict::Kind::kValid ? "valid" : verdict.check + " broken";
}

// "30 on ranks 0, 1; 32 on rank 2"
std::string shares_text(const std::map<int64_t, std::vector<int32_t>>& ranks_by_value) {
  std::string text;
  for (const auto& [value, ranks] : ranks_by_value)
    text += concat(text.empty() ? "" : "; ", value, " on ", names_of(ranks));
  return text;
}

struct SideBySide {
  EvidenceTable table;
  std::map<int64_t, std::vector<int32_t>> buckets;  // ranks by rows of their bucket
  std::map<int64_t, std::vector<int32_t>> unowned;  // ranks by rows that nobody owns, where there are any
  std::vector<std::string> reasons;
};

void add_rank(const ExplainContext& context, size_t index, SideBySide& side) {
  const RankEntry& rank = context.record.ranks[index];
  const StepEntry* entry = step_entry(context.record, rank.rank, context.step);
  const std::optional<StepPlan> plan = entry == nullptr ? std::nullopt : plan_of(context.record, *entry);
  const std::string last = last_text(context.record, rank.rank);
  if (!plan) {
    side.table.rows.push_back(
        {concat(rank.rank), rank.place, "not recorded", "-", "-", "-", "-", "-", "-", "-", last});
    return;
  }
  const int64_t unowned = owners_of(*plan).count(Owner::kUnowned);
  side.buckets[entry->bucket.rows.get()].push_back(rank.rank);
  if (unowned > 0) side.unowned[unowned].push_back(rank.rank);
  side.table.rows.push_back(
      {concat(rank.rank), rank.place, std::string(name_of(static_cast<Phase>(plan->scalar(field::phase)))),
       concat(plan->scalar(field::num_rows)), concat(entry->bucket.rows), concat(unowned),
       concat(plan->scalar(field::num_seqs)), plan_word(context.plans[index]),
       concat(name_of(entry->run), entry->ended ? "" : ", not ended"), hex_text(entry->plan_digest), last});
  if (!entry->reason.empty())
    side.reasons.push_back(concat("rank ", rank.rank, ": ", name_of(entry->run), ", ", entry->reason));
}

// Every rank of the job, as far as the records know: those without a record too.
std::set<int32_t> ranks_of_job(const Record& record) {
  std::set<int32_t> ranks;
  for (const RankEntry& rank : record.ranks) ranks.insert(rank.rank);
  for (const RankEntry& rank : record.ranks) {
    for (const int32_t member : members_of_group(record, rank.rank, "world")) {
      if (ranks.size() < kMostNamed) ranks.insert(member);
    }
  }
  return ranks;
}

const FaultEntry* fault_on(const Record& record, int32_t rank) {
  const auto at = std::find_if(record.faults.begin(), record.faults.end(),
                               [rank](const FaultEntry& fault) { return fault.on_rank == rank; });
  return at == record.faults.end() ? nullptr : &*at;
}

std::string part_of(const FaultEntry& fault, const FaultEntry& cause) {
  const std::string& check = fault.fault.check;
  if (!fault.told)
    return check == "G1" ? "said something else" : check.empty() ? "failed" : concat("broke ", check);
  if (check == "N0") return "went on";
  if (check == "G1") return cause.fault.field == "participation" ? "waited" : "said the other thing";
  return fault.fault.rank >= 0 ? concat("closed by rank ", fault.fault.rank) : "closed by another rank";
}

std::string cause_text(const FaultEntry& cause, const std::vector<int32_t>& own) {
  const Fault& fault = cause.fault;
  if (fault.check == "G1" && fault.field == "participation")
    return concat("rank ", fault.rank, " was missed: ", sentence_of(cause));
  if (fault.check == "G1")
    return concat("rank ", fault.rank, " said something else: ", fault.field, " is ", fault.found,
                  "; expected ", fault.expected);
  if (!own.empty())
    return concat(names_of(own), fault.check.empty() ? " failed" : concat(" broke ", fault.check), ": ",
                  sentence_of(cause));
  return concat(fault.rank >= 0 ? concat("rank ", fault.rank) : "another rank",
                ", as others heard: ", sentence_of(cause));
}

std::vector<int32_t> ranks_with(const ExplainContext& context, Came came) {
  std::vector<int32_t> ranks;
  for (const RankNumbers& each : context.numbers) {
    if (each.came == came) ranks.push_back(each.rank);
  }
  return ranks;
}

// Nobody has noticed anything, but probes saw who made what is not finite.
Answer cause_in_numbers(Answer answer, const ExplainContext& context) {
  const std::vector<int32_t> made = ranks_with(context, Came::kMade);
  if (made.empty()) return answer;
  const std::vector<int32_t> received = ranks_with(context, Came::kReceived);
  answer.source = source_of(context.first->source);
  answer.answer = concat(names_of(made), " made numbers that are not finite");
  if (!received.empty()) answer.answer += concat("; ", names_of(received), " only received some");
  return answer;
}

// Whose rows a rank received in a collective of the replicas: "rows 26..29 of rank 0".
std::string sources_text(const ExplainContext& context, const Finding& finding) {
  const int32_t rank = finding.at.rank;
  const StepEntry* step = step_entry(context.record, rank, finding.at.step);
  const std::span<const int32_t> members = members_of_group(context.record, rank, "dp");
  const int32_t rows = step == nullptr ? 0 : step->bucket.rows.get();
  std::map<int32_t, std::vector<int32_t>> of;
  for (const int32_t row : finding.rows) {
    const auto member = rows > 0 && row >= 0 ? static_cast<size_t>(row / rows) : members.size();
    if (member < members.size() && members[member] != rank) of[members[member]].push_back(row % rows);
  }
  std::string text;
  for (const auto& [source, which] : of) {
    text += concat(text.empty() ? "" : " and ", which.size() == 1 ? "row " : "rows ",
                   rows_text(which, static_cast<int64_t>(which.size())), " of rank ", source);
  }
  return text;
}

// What came to a rank through collectives, first come first.
struct Received {
  const Finding* finding = nullptr;
  std::string what;
};
Received received_by(const ExplainContext& context, int32_t rank) {
  Received first;
  LaunchTime at;
  for (const Finding& finding : context.record.findings) {
    if (finding.at.rank != rank || !finding.at.collective || finding.side != Side::kOutput) continue;
    std::string what = finding.owner == Owner::kGathered ? sources_text(context, finding) : "";
    if (finding.owner == Owner::kGathered && what.empty()) continue;  // its own rows come back to it
    const LaunchTime time = context.clock.time_of(finding.at);
    if (first.finding != nullptr && at <= time) continue;
    first = {&finding, std::move(what)};
    at = time;
  }
  return first;
}

bool own_rows_affected(const ExplainContext& context, int32_t rank, uint64_t step) {
  return std::any_of(context.record.findings.begin(), context.record.findings.end(),
                     [&](const Finding& each) {
                       return each.at.rank == rank && each.at.step == step && each.owner != Owner::kGathered;
                     });
}

}  // namespace

Answer answer_ranks(const ExplainContext& context) {
  Answer answer = ask("ranks", "What did the ranks do side by side?");
  if (context.record.ranks.empty()) return answer;
  SideBySide side{
      .table = {.title = concat("step ", context.step),
                .columns = {"rank", "place", "phase", "rows", "bucket", "nobody's", "sequences", "plan",
                            "run", "plan digest", "last collective"},
                .right = {true, false, false, true, true, true, true, false, false, false, false}},
      .buckets = {},
      .unowned = {},
      .reasons = {}};
  for (size_t r = 0; r < context.record.ranks.size(); ++r) add_rank(context, r, side);
  if (side.buckets.empty() && context.record.ledger.empty()) return answer;
  answer.source = Source::kSeen;
  answer.evidence = side.reasons;
  const std::string difference = first_difference(context);
  if (!difference.empty())
    answer.answer = difference;
  else if (context.record.ranks.size() == 1)
    answer.answer = "one rank is recorded";
  else if (side.buckets.size() > 1)
    answer.answer = "the ranks ran buckets of different size: " + shares_text(side.buckets);
  else
    answer.answer = "the ranks ran buckets of one size, and no two collectives differ";
  if (!side.unowned.empty() && context.record.ranks.size() > 1)
    answer.answer += concat("; rows that nobody owns: ", shares_text(side.unowned));
  answer.tables.push_back(std::move(side.table));
  if (!context.meetings.empty()) answer.tables.push_back(last_meetings(context));
  return answer;
}

Answer answer_cause(const ExplainContext& context) {
  Answer answer = ask("cause", "Which rank was it, and which ones only followed?");
  const std::set<int32_t> ranks = ranks_of_job(context.record);
  if (ranks.size() < 2) return answer;
  if (context.record.faults.empty()) return cause_in_numbers(std::move(answer), context);
  const FaultEntry& cause = context.record.faults.front();
  EvidenceTable table{.title = "how it ended on each rank",
                      .columns = {"rank", "place", "part", "step", "last collective"},
                      .right = {true, false, false, true, false}};
  std::vector<int32_t> own, told, silent;
  for (const int32_t rank : ranks) {
    const RankEntry* entry = rank_entry(context.record, rank);
    const FaultEntry* fault = fault_on(context.record, rank);
    if (fault != nullptr) (fault->told ? told : own).push_back(rank);
    if (entry == nullptr) silent.push_back(rank);
    table.rows.push_back({concat(rank), entry == nullptr ? "" : entry->place,
                          entry == nullptr   ? "no record here"
                          : fault == nullptr ? "no fault on record"
                                             : part_of(*fault, cause),
                          fault == nullptr ? "-" : concat(fault->fault.step),
                          last_text(context.record, rank)});
  }
  answer.source = Source::kSeen;
  answer.answer = cause_text(cause, own);
  if (!told.empty()) answer.answer += concat("; ", names_of(told), " only followed");
  if (!silent.empty())
    answer.evidence.push_back(
        concat("of ", names_of(silent), " there is no record here: give it too, unless none was written"));
  answer.tables.push_back(std::move(table));
  const size_t line = cause.message.find('\n');
  if (line != std::string::npos) answer.listing = cause.message.substr(line + 1) + "\n";
  return answer;
}

Answer answer_spread(const ExplainContext& context) {
  Answer answer = ask("spread", "Was it carried to other ranks by a collective?");
  if (context.first == nullptr || context.record.ranks.size() < 2) return answer;
  answer.source = source_of(context.first->source);
  const std::vector<int32_t> made = ranks_with(context, Came::kMade);
  std::string carried;
  for (const RankNumbers& each : context.numbers) {
    if (each.came == Came::kNot) {
      answer.evidence.push_back(concat("rank ", each.rank, ": nothing that is not finite was found"));
      continue;
    }
    const Received received = received_by(context, each.rank);
    if (received.finding == nullptr) continue;
    const std::string what =
        received.what.empty()
            ? concat(received.finding->row_count == 1 ? "row " : "rows ",
                     rows_text(received.finding->rows, received.finding->row_count), " in a sum")
            : received.what;
    const std::string line =
        concat("rank ", each.rank, " received ", what, " at ", launch_text(received.finding->at));
    if (each.came != Came::kReceived) {
      answer.evidence.push_back(line + ", after it had some of its own");
      continue;
    }
    carried += (carried.empty() ? "yes: " : "; ") + line +
               (own_rows_affected(context, each.rank, received.finding->at.step)
                    ? ""
                    : ", and its own rows stayed finite");
  }
  if (!carried.empty())
    answer.answer = carried;
  else
    answer.answer = concat("no: ", names_of(made), made.size() == 1 ? " has" : " have",
                           " made what is not finite there, and no other rank was brought any, as far as was "
                           "recorded");
  return answer;
}

std::vector<MeetingMark> meeting_marks(const ExplainContext& context) {
  std::vector<MeetingMark> marks;
  const size_t count = context.meetings.size();
  for (size_t m = count - std::min(count, kMostDrawn); m < count; ++m) {
    const Meeting& meeting = context.meetings[m];
    MeetingMark mark{.order = meeting.order,
                     .step = meeting.entered[0]->epoch,
                     .group = std::string(meeting.group),
                     .number = meeting.number,
                     .what = call_text(*meeting.entered[0]),
                     .where = meeting.entered[0]->where,
                     .ranks = {},
                     .missing = missing(context, meeting),
                     .differs = differs(meeting)};
    for (const LedgerEntry* entry : meeting.entered) mark.ranks.push_back(entry->rank);
    marks.push_back(std::move(mark));
  }
  return marks;
}

}  // namespace lockstep
