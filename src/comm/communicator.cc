#include "comm/communicator.h"

#include <algorithm>

#include "base/check.h"

namespace lockstep {
namespace {

// How many blocks like `mine` fit into `all`; -1: no whole number of them.
int32_t outputs_of(std::span<const std::byte> mine, std::span<std::byte> all, int32_t size) {
  if (mine.empty()) return all.empty() ? size : -1;
  return all.size() % mine.size() == 0 ? static_cast<int32_t>(all.size() / mine.size()) : -1;
}

}  // namespace

Communicator::Communicator(Membership group, Ledger* ledger) : group_(std::move(group)), ledger_(ledger) {
  LS_CHECK(group_.rank >= 0 && group_.rank < size(), group_.name, ": rank ", group_.rank, " of ", size());
}

Status Communicator::all_gather(std::span<const std::byte> mine, std::span<std::byte> all, DType dtype,
                                const CallSite& at) {
  const int32_t outputs = outputs_of(mine, all, size());
  if (outputs < 0 || (size() == 1 && outputs != 1)) {
    return refuse(error(Code::kInternal, name(), ": all_gather of ", mine.size(), " bytes into ", all.size(),
                        "; expected ", mine.size() * static_cast<size_t>(size())));
  }
  return enter({.op = Collective::kAllGather, .dtype = dtype, .outputs = outputs}, at, mine, all);
}

Status Communicator::all_to_all(std::span<const std::byte> send, std::span<std::byte> receive, int64_t block,
                                DType dtype, const CallSite& at) {
  const int64_t bytes = block * size();
  if (static_cast<int64_t>(send.size()) != bytes || static_cast<int64_t>(receive.size()) != bytes) {
    return refuse(error(Code::kInternal, name(), ": all_to_all of ", send.size(), " bytes into ",
                        receive.size(), "; expected ", bytes, ", ", size(), " blocks of ", block));
  }
  return enter({.op = Collective::kAllToAll, .dtype = dtype, .outputs = size()}, at, send, receive);
}

Status Communicator::broadcast(std::span<std::byte> bytes, int32_t root, DType dtype, const CallSite& at) {
  if (root < 0 || root >= size()) {
    return refuse(error(Code::kInternal, name(), ": broadcast from rank ", root,
                        " of the group; expected 0..", size() - 1));
  }
  return enter({.op = Collective::kBroadcast, .root = root, .dtype = dtype, .outputs = size()}, at, bytes,
               bytes);
}

void Communicator::number(Call& call, const CallSite& at) {
  call.number = ++entered_;
  call.place(at);
  call.step = ledger_ != nullptr ? ledger_->epoch() : 0;
}

void Communicator::note(const Call& call, const CallSite& at) {
  if (ledger_ == nullptr) return;
  ledger_->enter({.op = name_of(call.op),
                  .group = name(),
                  .dtype = call.dtype,
                  .count = call.count(),
                  .number = call.number,
                  .at = at});
}

// By what the fabric has carried: ranks need not have enqueued equally much.
void Communicator::place_of_turn(Call& call, const CallSite& at) {
  call.number = carried_ + 1;
  call.place(at);
  call.step = ledger_ != nullptr ? ledger_->epoch() : 0;
}

Status Communicator::carry(const Call& call, std::span<const std::byte> send, std::span<std::byte> receive) {
  return run(
      {.call = call, .turn = ++carried_, .rank = rank(), .size = size(), .send = send, .receive = receive});
}

Status Communicator::enter(Call call, const CallSite& at, std::span<const std::byte> send,
                           std::span<std::byte> receive) {
  LS_TRY(status());
  call.bytes = static_cast<int64_t>(send.size());
  number(call, at);
  if (call.bytes % size_of(call.dtype) != 0) {
    return refuse(error(Code::kInternal, name(), ": ", name_of(call.op), " of ", call.bytes,
                        " bytes; expected whole elements of ", name_of(call.dtype)));
  }
  if (size() == 1) {
    Exchange{.call = call, .size = 1, .send = send, .receive = receive}.keep_own();
    return {};
  }
  note(call, at);
  const Status done = carry(call, send, receive);
  if (!done.ok()) return refuse(done);
  if (ledger_ != nullptr) ledger_->leave();
  return {};
}

void Communicator::connect(std::unique_ptr<DeviceLink> link) {
  const std::lock_guard lock(mutex_);
  link_ = std::move(link);
  if (!closed_.ok()) link_->close();
}

Status Communicator::enqueue(const Wanted& wanted, std::span<const std::byte> send,
                             std::span<std::byte> receive, const Worker& on) {
  LS_TRY(status());
  if (link_ == nullptr) {
    return refuse(error(Code::kInternal, name(), ": ", name_of(wanted.op), " of ", send.size(),
                        " bytes on a device; expected a group that is connected to one"));
  }
  Call call{.op = wanted.op,
            .root = wanted.root,
            .dtype = wanted.dtype,
            .bytes = static_cast<int64_t>(send.size()),
            .outputs = wanted.op == Collective::kAllGather ? outputs_of(send, receive, size()) : size()};
  if (replayed(on) || !link_->records(on.queue)) {
    number(call, wanted.at);
    note(call, wanted.at);
    call.step = 0;
    enqueued_digest_ = digest_bytes(&call, sizeof(call), enqueued_digest_);
    enqueued_.push_back(call);
  }
  // Who has too little room is told by all, in settle().
  if (replayed(on) || call.outputs != size()) return {};
  const Status done = link_->run(
      {.call = call, .turn = 0, .rank = rank(), .size = size(), .send = send, .receive = receive}, on.queue);
  return done.ok() ? done : refuse(done);
}

// Not in the ledger: what the rank waits in are the collectives that its device is in.
Status Communicator::settle() {
  if (enqueued_.empty()) return {};
  LS_TRY(status());
  const std::array<uint64_t, 2> own{enqueued_.size(), enqueued_digest_};
  std::vector<std::array<uint64_t, 2>> all(static_cast<size_t>(size()));
  Call call{.bytes = sizeof(own), .outputs = size()};
  call.dtype = DType::kU8;
  place_of_turn(call, {.stage = "enqueued"});
  const Status done = carry(call, std::as_bytes(std::span(own)), std::as_writable_bytes(std::span(all)));
  if (!done.ok()) return refuse(done);
  if (std::any_of(all.begin(), all.end(), [&](const auto& each) { return each != own; })) {
    std::vector<uint64_t> counts;
    for (const auto& [count, digest] : all) counts.push_back(count);
    return refuse(compare_enqueued(counts));
  }
  enqueued_.clear();
  enqueued_digest_ = 0;
  return {};
}

// All bring their lists, filled up to the longest with what says that there is nothing more.
Status Communicator::compare_enqueued(const std::vector<uint64_t>& counts) {
  const size_t longest = *std::max_element(counts.begin(), counts.end());
  std::vector<Call> own = enqueued_;
  own.resize(longest, Call{.op = Collective::kNothing, .outputs = size()});
  std::vector<Call> all(longest * counts.size());
  Call call{.dtype = DType::kU8, .bytes = static_cast<int64_t>(longest * sizeof(Call)), .outputs = size()};
  place_of_turn(call, {.stage = "lists"});
  LS_TRY(carry(call, std::as_bytes(std::span(own)), std::as_writable_bytes(std::span(all))));
  for (size_t i = 0; i < longest; ++i) {
    std::vector<Call> said;
    for (size_t rank = 0; rank < counts.size(); ++rank) {
      said.push_back(all[rank * longest + i]);
      said.back().step = ledger_ != nullptr ? ledger_->epoch() : 0;
    }
    LS_TRY(compare_calls(names(), said));
  }
  return error(Code::kInternal, name(),
               ": the ranks have enqueued lists of other digests and the same calls");
}

Status Communicator::refuse(const Status& why) {
  fail(why);
  return status();
}

void Communicator::fail(const Status& why) {
  LS_CHECK(!why.ok(), name(), ": closed without a reason");
  std::shared_ptr<DeviceLink> link;
  {
    const std::lock_guard lock(mutex_);
    if (!closed_.ok()) return;
    closed_ = why;
    link = link_;
  }
  if (size() > 1) close(why);
  if (link != nullptr) link->close();
  if (on_fail_) on_fail_(why);
}

Status Communicator::status() const {
  const std::lock_guard lock(mutex_);
  return closed_;
}

Result<Membership> join(Communicator& all, std::string_view name, int32_t color) {
  std::vector<int32_t> colors(static_cast<size_t>(all.size()));
  LS_TRY(all.all_gather(std::as_bytes(std::span(&color, 1)), std::as_writable_bytes(std::span(colors)),
                        DType::kI32));
  Membership group{.name = name, .rank = 0, .members = {}};
  for (size_t m = 0; m < colors.size(); ++m) {
    if (colors[m] != color) continue;
    if (static_cast<int32_t>(m) == all.rank()) group.rank = static_cast<int32_t>(group.members.size());
    group.members.push_back(all.members()[m]);
  }
  return group;
}

}  // namespace lockstep
