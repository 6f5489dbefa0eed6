#include "comm/thread_fabric.h"

#include <algorithm>
#include <atomic>
#include <numeric>

#include "base/check.h"
#include "comm/patience.h"

namespace lockstep {
namespace internal {

// What the members of a group share. An exchange has two moments: it is *committed* when the last member has
// arrived, under the lock, so that nobody is told that somebody is missing who is not; and it is *read* when
// everybody has what they came for.
class ThreadGroup {
 public:
  ThreadGroup(size_t members, std::chrono::milliseconds deadline) : deadline_(deadline), members_(members) {}

  Status run(const GroupNames& names, const Exchange& exchange);
  void close(const Status& why);

 private:
  // What a member brings to one exchange.
  struct Post {
    Call call;
    std::span<const std::byte> data;  // `kept`, or memory of the member, who stays until all have read
    std::vector<std::byte> kept;
  };
  struct alignas(64) Member {
    std::atomic<uint64_t> arrived{0};  // turn of its newest exchange
    // By the parity of the exchange: who is at exchange k + 2 knows that all have left exchange k.
    Post posts[2];
  };
  // What is copied need not be waited for. Above, waiting costs less than the second copy.
  static constexpr size_t kKept = size_t{32} << 10;

  void arrive(const Exchange& exchange);
  Status wait_for_all(const GroupNames& names, const Exchange& exchange);
  Status give_up(const GroupNames& names, const Exchange& exchange);
  const Post& post_of(size_t member, uint64_t number) const { return members_[member].posts[number % 2]; }

  const std::chrono::milliseconds deadline_;
  std::vector<Member> members_;
  std::atomic<uint64_t> arrivals_{0};  // of all members, to all exchanges
  std::atomic<uint64_t> committed_{0};
  std::atomic<uint64_t> readers_{0};  // that are through with an exchange, in all exchanges
  std::atomic<bool> is_closed_{false};
  std::mutex mutex_;
  Status closed_;
};

void ThreadGroup::arrive(const Exchange& exchange) {
  const uint64_t number = exchange.turn;
  Member& self = members_[static_cast<size_t>(exchange.rank)];
  Post& post = self.posts[number % 2];
  post.call = exchange.call;
  post.data = exchange.send;
  if (exchange.send.size() <= kKept) {
    post.kept.assign(exchange.send.begin(), exchange.send.end());
    post.data = post.kept;
  }
  self.arrived.store(number, std::memory_order_release);
  if (arrivals_.fetch_add(1, std::memory_order_acq_rel) + 1 < number * members_.size()) return;
  const std::lock_guard lock(mutex_);
  if (closed_.ok()) committed_.store(number, std::memory_order_release);
}

Status ThreadGroup::wait_for_all(const GroupNames& names, const Exchange& exchange) {
  Patience patience(deadline_);
  while (committed_.load(std::memory_order_acquire) < exchange.turn) {
    if (is_closed_.load(std::memory_order_acquire) || !patience.wait()) return give_up(names, exchange);
  }
  return {};
}

// Closed, or waited for too long; unless the last one has come in the meantime.
Status ThreadGroup::give_up(const GroupNames& names, const Exchange& exchange) {
  const std::lock_guard lock(mutex_);
  if (committed_.load(std::memory_order_acquire) >= exchange.turn) return {};
  if (closed_.ok()) {
    std::vector<int32_t> missing;
    for (size_t m = 0; m < members_.size(); ++m) {
      const bool came = members_[m].arrived.load(std::memory_order_acquire) >= exchange.turn;
      if (!came) missing.push_back(names.members[m]);
    }
    closed_ = absence(names, exchange, missing, deadline_);
    is_closed_.store(true, std::memory_order_release);
  }
  return closed_;
}

Status ThreadGroup::run(const GroupNames& names, const Exchange& exchange) {
  arrive(exchange);
  LS_TRY(wait_for_all(names, exchange));
  const uint64_t number = exchange.turn;
  std::vector<Call> calls;
  for (size_t m = 0; m < members_.size(); ++m) calls.push_back(post_of(m, number).call);
  LS_TRY(compare_calls(names, calls));
  for (int32_t m = 0; m < exchange.size; ++m) {
    if (m == exchange.rank) continue;
    Exchange theirs = exchange;
    theirs.rank = m;
    theirs.send = post_of(static_cast<size_t>(m), number).data;
    const std::span<const std::byte> block = theirs.to(exchange.rank);
    std::copy(block.begin(), block.end(), exchange.from(m).begin());
  }
  exchange.keep_own();
  readers_.fetch_add(1, std::memory_order_acq_rel);
  if (exchange.send.size() <= kKept) return {};
  // All have arrived and only copy, so nobody has to be waited for who may never come.
  Patience patience(std::chrono::hours(1));
  while (readers_.load(std::memory_order_acquire) < number * members_.size()) patience.wait();
  return {};
}

void ThreadGroup::close(const Status& why) {
  const std::lock_guard lock(mutex_);
  if (!closed_.ok()) return;
  closed_ = why;
  is_closed_.store(true, std::memory_order_release);
}

}  // namespace internal

namespace {

class ThreadCommunicator final : public Communicator {
 public:
  ThreadCommunicator(Membership place, Ledger* ledger, std::shared_ptr<internal::ThreadGroup> group)
      : Communicator(std::move(place), ledger), group_(std::move(group)) {}

 private:
  Status run(const Exchange& exchange) override { return group_->run(names(), exchange); }
  void close(const Status& why) override { group_->close(why); }

  std::shared_ptr<internal::ThreadGroup> group_;
};

std::vector<int32_t> count_to(int32_t ranks) {
  std::vector<int32_t> members(static_cast<size_t>(ranks));
  std::iota(members.begin(), members.end(), 0);
  return members;
}

}  // namespace

ThreadWorld::ThreadWorld(int32_t ranks, std::chrono::milliseconds deadline)
    : ranks_(ranks), deadline_(deadline) {
  LS_CHECK(ranks > 0, "a world of ", ranks, " ranks");
  joined_ = std::make_shared<internal::ThreadGroup>(static_cast<size_t>(ranks), ThreadFabric::kJoin);
}

// Whoever comes first makes it.
std::shared_ptr<internal::ThreadGroup> ThreadWorld::group(int64_t split, int32_t color, size_t members) {
  const std::lock_guard lock(mutex_);
  std::shared_ptr<internal::ThreadGroup>& group = groups_[{split, color}];
  if (group == nullptr) group = std::make_shared<internal::ThreadGroup>(members, deadline_);
  return group;
}

ThreadFabric::ThreadFabric(std::shared_ptr<ThreadWorld> world, int32_t rank)
    : world_(std::move(world)), rank_(rank) {
  LS_CHECK(rank >= 0 && rank < world_->ranks(), "rank ", rank, " of ", world_->ranks());
  joined_ = std::make_unique<ThreadCommunicator>(Membership{"join", rank, count_to(world_->ranks())}, nullptr,
                                                 world_->joined_);
}

Result<std::unique_ptr<Communicator>> ThreadFabric::split(std::string_view name, int32_t color,
                                                          Ledger* ledger) {
  Membership place = LS_TRY(join(*joined_, name, color));
  auto group = world_->group(++splits_, color, place.members.size());
  return std::unique_ptr<Communicator>(
      std::make_unique<ThreadCommunicator>(std::move(place), ledger, std::move(group)));
}

std::vector<std::unique_ptr<Communicator>> make_thread_group(std::string_view name, int32_t ranks,
                                                             std::chrono::milliseconds deadline,
                                                             std::span<Ledger> ledgers) {
  const auto group = std::make_shared<internal::ThreadGroup>(static_cast<size_t>(ranks), deadline);
  std::vector<std::unique_ptr<Communicator>> members;
  for (int32_t rank = 0; rank < ranks; ++rank) {
    Ledger* ledger = ledgers.empty() ? nullptr : &ledgers[static_cast<size_t>(rank)];
    members.push_back(
        std::make_unique<ThreadCommunicator>(Membership{name, rank, count_to(ranks)}, ledger, group));
  }
  return members;
}

}  // namespace lockstep
