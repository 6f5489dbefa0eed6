#include "comm/exchange.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/fault.h"
#include "diag/table.h"

namespace lockstep {
namespace {

bool has_room(const GroupNames& group, const Call& call) {
  return call.outputs == static_cast<int32_t>(group.members.size());
}

std::string said(const GroupNames& group, const Call& call) {
  std::string text = describe(call);
  if (call.root >= 0) text += concat(" from rank ", group.members[static_cast<size_t>(call.root)]);
  if (!has_room(group, call))
    text += concat(" into ", call.outputs, call.outputs == 1 ? " output" : " outputs");
  if (const std::string where = call.where(); !where.empty()) text += concat(" at ", where);
  return text;
}

// Room, place and step have columns where they say something.
std::string table_of(const GroupNames& group, std::span<const Call> calls, const Call& expected) {
  const auto any = [&](auto says) { return std::any_of(calls.begin(), calls.end(), says); };
  const bool room = any([&](const Call& call) { return !has_room(group, call); });
  const bool place = any([](const Call& call) { return !call.where().empty(); });
  const bool step = any([&](const Call& call) { return call.step != calls[0].step; });
  std::vector<Table::Column> columns = {
      {"rank"}, {"op", Align::kLeft}, {"root"}, {"dtype", Align::kLeft}, {"count"}};
  if (room) columns.push_back({"outputs"});
  columns.push_back({"collective"});
  if (step) columns.push_back({"step"});
  if (place) columns.push_back({"of", Align::kLeft});
  columns.push_back({""});
  Table table(std::move(columns));
  for (size_t i = 0; i < calls.size(); ++i) {
    const Call& call = calls[i];
    const std::string root = call.root < 0 ? "-" : concat(group.members[static_cast<size_t>(call.root)]);
    std::vector<std::string> row = {concat(group.members[i]), std::string(name_of(call.op)), root,
                                    std::string(name_of(call.dtype)), concat(call.count())};
    if (room) row.push_back(concat(call.outputs));
    row.push_back(concat(call.number));
    if (step) row.push_back(concat(call.step));
    if (place) row.push_back(call.where());
    row.emplace_back(call == expected ? "" : "differs");
    table.row(std::move(row));
  }
  std::string text = table.text();
  text.pop_back();
  return text;
}

}  // namespace

std::string_view name_of(Collective op) {
  switch (op) {
    case Collective::kAllGather: return "all_gather";
    case Collective::kAllToAll: return "all_to_all";
    case Collective::kBroadcast: return "broadcast";
    case Collective::kNothing: return "nothing";
  }
  return "unknown";
}

bool Call::operator==(const Call& other) const {
  Call same_step = other;
  same_step.step = step;
  return std::memcmp(this, &same_step, sizeof(Call)) == 0;
}

void Call::place(const CallSite& at) {
  stage = {};
  std::copy_n(at.stage.data(), std::min(at.stage.size(), stage.size() - 1), stage.data());
  layer = static_cast<int32_t>(at.layer);
}

std::string describe(const Call& call) {
  if (call.op == Collective::kNothing) return "nothing more";
  return concat(name_of(call.op), " of ", call.count(), " ", name_of(call.dtype));
}

std::span<const std::byte> Exchange::to(int32_t member) const {
  const size_t block = send.size() / static_cast<size_t>(size);
  switch (call.op) {
    case Collective::kAllGather: return send;
    case Collective::kAllToAll: return send.subspan(block * static_cast<size_t>(member), block);
    case Collective::kBroadcast: return rank == call.root ? send : send.first(0);
    case Collective::kNothing: break;
  }
  return {};
}

std::span<std::byte> Exchange::from(int32_t member) const {
  if (call.op == Collective::kBroadcast) return member == call.root ? receive : receive.first(0);
  const size_t block = receive.size() / static_cast<size_t>(size);
  return receive.subspan(block * static_cast<size_t>(member), block);
}

void Exchange::keep_own() const {
  const std::span<const std::byte> own = to(rank);
  const std::span<std::byte> place = from(rank);
  if (!own.empty() && own.data() != place.data()) std::memcpy(place.data(), own.data(), own.size());
}

Status compare_calls(const GroupNames& group, std::span<const Call> calls) {
  const bool same =
      std::all_of(calls.begin(), calls.end(), [&](const Call& call) { return call == calls[0]; });
  if (same && has_room(group, calls[0])) return {};
  const auto votes = [&](const Call& call) { return std::count(calls.begin(), calls.end(), call); };
  const auto most = std::max_element(calls.begin(), calls.end(),
                                     [&](const Call& a, const Call& b) { return votes(a) < votes(b); });
  const auto odd =
      same ? most : std::find_if(calls.begin(), calls.end(), [&](const Call& call) { return call != *most; });
  const auto rank_of = [&](auto at) { return group.members[static_cast<size_t>(at - calls.begin())]; };
  Fault fault{.check = "G1",
              .moment = Moment::kGroup,
              .consumer = std::string(group.name),
              .field = concat("collective ", most->number),
              .rank = rank_of(odd),
              .step = most->step,
              .expected = same ? concat("room for ", group.members.size(), " ranks")
                               : concat(said(group, *most), ", as on rank ", rank_of(most)),
              .found = concat(said(group, *odd), " on rank ", rank_of(odd))};
  // Without the rule nobody says who entered what; to exchange bytes all the same would be garbage.
  if (!rule_is_on(fault.check))
    return error(Code::kInternal, group.name, ": the ranks have entered different collectives");
  std::string message = concat(fault.message(), "\n", table_of(group, calls, *most));
  return {Code::kInternal, std::move(message), std::make_shared<const Fault>(std::move(fault))};
}

Status absence(const GroupNames& group, const Exchange& exchange, std::span<const int32_t> missing,
               std::chrono::milliseconds deadline) {
  std::string who;
  for (const int32_t rank : missing) who += concat(who.empty() ? "rank " : ", rank ", rank);
  const std::string where = concat("collective ", exchange.call.number, ", ", said(group, exchange.call));
  Fault fault{.check = "G1",
              .moment = Moment::kGroup,
              .consumer = std::string(group.name),
              .field = "participation",
              .rank = missing.empty() ? 0 : missing.front(),
              .step = exchange.call.step,
              .expected = concat("all ", exchange.size, " ranks within ", deadline.count(), " ms"),
              .found = concat("without ", who, " at ", where)};
  // A rank that is not there cannot be passed over; without the rule nobody says which it was.
  if (!rule_is_on(fault.check)) return error(Code::kDevice, group.name, ": a collective timed out");
  std::string message =
      concat(exchange.call.step > 0 ? concat("step ", exchange.call.step, ": ") : "", "G1 ", group.name, ": ",
             who, " did not come to ", where, "; expected ", fault.expected, "; the group is closed");
  return {Code::kDevice, std::move(message), std::make_shared<const Fault>(std::move(fault))};
}

}  // namespace lockstep
