#include "comm/communicator.h"

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

Status Communicator::enter(Call call, const CallSite& at, std::span<const std::byte> send,
                           std::span<std::byte> receive) {
  LS_TRY(status());
  call.bytes = static_cast<int64_t>(send.size());
  call.number = ++entered_;
  call.place(at);
  call.step = ledger_ != nullptr ? ledger_->epoch() : 0;
  if (call.bytes % size_of(call.dtype) != 0) {
    return refuse(error(Code::kInternal, name(), ": ", name_of(call.op), " of ", call.bytes,
                        " bytes; expected whole elements of ", name_of(call.dtype)));
  }
  const Exchange exchange{.call = call, .rank = rank(), .size = size(), .send = send, .receive = receive};
  if (size() == 1) {
    exchange.keep_own();
    return {};
  }
  if (ledger_ != nullptr) {
    ledger_->enter({.op = name_of(call.op),
                    .group = name(),
                    .dtype = call.dtype,
                    .count = call.count(),
                    .number = call.number,
                    .at = at});
  }
  const Status done = run(exchange);
  if (!done.ok()) return refuse(done);
  if (ledger_ != nullptr) ledger_->leave();
  return {};
}

Status Communicator::refuse(const Status& why) {
  fail(why);
  return status();
}

void Communicator::fail(const Status& why) {
  LS_CHECK(!why.ok(), name(), ": closed without a reason");
  {
    const std::lock_guard lock(mutex_);
    if (!closed_.ok()) return;
    closed_ = why;
  }
  if (size() > 1) close(why);
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
