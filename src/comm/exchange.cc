#include "comm/exchange.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/fault.h"
#include "diag/table.h"

namespace lockstep {
namespace {

std::string said(const GroupNames& group, const Call& call) {
  std::string text = describe(call);
  if (call.root >= 0) text += concat(" from rank ", group.members[static_cast<size_t>(call.root)]);
  return text;
}

std::string table_of(const GroupNames& group, std::span<const Call> calls, const Call& expected) {
  Table table(
      {{"rank"}, {"op", Align::kLeft}, {"root"}, {"dtype", Align::kLeft}, {"count"}, {"collective"}, {""}});
  for (size_t i = 0; i < calls.size(); ++i) {
    const Call& call = calls[i];
    const std::string root = call.root < 0 ? "-" : concat(group.members[static_cast<size_t>(call.root)]);
    table.row({concat(group.members[i]), std::string(name_of(call.op)), root,
               std::string(name_of(call.dtype)), concat(call.count()), concat(call.number),
               call == expected ? "" : "differs"});
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
  }
  return "unknown";
}

std::string describe(const Call& call) {
  return concat(name_of(call.op), " of ", call.count(), " ", name_of(call.dtype));
}

std::span<const std::byte> Exchange::to(int32_t member) const {
  const size_t block = send.size() / static_cast<size_t>(size);
  switch (call.op) {
    case Collective::kAllGather: return send;
    case Collective::kAllToAll: return send.subspan(block * static_cast<size_t>(member), block);
    case Collective::kBroadcast: return rank == call.root ? send : send.first(0);
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

Status compare_calls(const GroupNames& group, std::span<const Call> calls, uint64_t step) {
  const bool same =
      std::all_of(calls.begin(), calls.end(), [&](const Call& call) { return call == calls[0]; });
  if (same) return {};
  const auto votes = [&](const Call& call) { return std::count(calls.begin(), calls.end(), call); };
  const auto most = std::max_element(calls.begin(), calls.end(),
                                     [&](const Call& a, const Call& b) { return votes(a) < votes(b); });
  const auto odd = std::find_if(calls.begin(), calls.end(), [&](const Call& call) { return call != *most; });
  const auto rank_of = [&](auto at) { return group.members[static_cast<size_t>(at - calls.begin())]; };
  Fault fault{.check = "G1",
              .moment = Moment::kGroup,
              .consumer = std::string(group.name),
              .field = concat("collective ", most->number),
              .rank = rank_of(odd),
              .step = step,
              .expected = concat(said(group, *most), ", as on rank ", rank_of(most)),
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
              .step = exchange.step,
              .expected = concat("all ", exchange.size, " ranks within ", deadline.count(), " ms"),
              .found = concat("without ", who, " at ", where)};
  // A rank that is not there cannot be passed over; without the rule nobody says which it was.
  if (!rule_is_on(fault.check)) return error(Code::kDevice, group.name, ": a collective timed out");
  std::string message =
      concat(exchange.step > 0 ? concat("step ", exchange.step, ": ") : "", "G1 ", group.name, ": ", who,
             " did not come to ", where, "; expected ", fault.expected, "; the group is closed");
  return {Code::kDevice, std::move(message), std::make_shared<const Fault>(std::move(fault))};
}

}  // namespace lockstep
