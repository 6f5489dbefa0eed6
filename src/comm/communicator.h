// Communicator: one group of ranks, as one of its members sees it. Everything that ranks tell each other
// about numbers goes through here, and stands in the ledger before it is entered.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string_view>
#include <vector>

#include "base/digest.h"
#include "base/status.h"
#include "comm/device_link.h"
#include "comm/exchange.h"
#include "comm/ledger.h"
#include "device/thread_pool.h"
#include "tensor/dtype.h"

namespace lockstep {

// Whom a group consists of, and which of them this is.
struct Membership {
  std::string_view name;         // "tp": static storage
  int32_t rank = 0;              // in the group
  std::vector<int32_t> members;  // ranks in the world, in order
};

// Whether a launch is only to be noted: its device has been handed the recording that it is part of.
inline bool replayed(const Worker& worker) { return worker.queue != nullptr && worker.count == 0; }

// A collective as somebody asks a device for it.
struct Wanted {
  Collective op = Collective::kAllGather;
  DType dtype = DType::kF32;
  CallSite at;
  int32_t root = -1;  // of a broadcast
};

// Thread: collectives by one owner; fail() and status() by anybody. All members call the same collectives in
// the same order with the same sizes. While a rank waits it yields its CPU. Once something has failed the
// communicator is closed: every call, on every member that learns of it, returns the first reason at once.
class Communicator {
 public:
  virtual ~Communicator() = default;
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  std::string_view name() const { return group_.name; }
  int32_t rank() const { return group_.rank; }  // in the group
  int32_t size() const { return static_cast<int32_t>(group_.members.size()); }
  std::span<const int32_t> members() const { return group_.members; }  // their ranks in the world

  // What a collective carries, for the ledger: bytes are counted in elements of `dtype`. `at` says where in
  // a step it stands, and is compared like the rest: collectives that differ in nothing else are told apart.
  // `all`: size() times what each rank brings, in order of ranks; `mine` may lie inside it at its place.
  // Errors: kDevice or kInternal, with a fault (G1): who is missing, or who said what; the first reason of a
  // closed communicator. kInternal for sizes that do not fit; an all_gather into another number of blocks
  // than size() is told to everybody (G1). A group of one copies, and writes no ledger.
  Status all_gather(std::span<const std::byte> mine, std::span<std::byte> all, DType dtype,
                    const CallSite& at = {});
  // Block p of `send` goes to rank p; block p of `receive` comes from it. Blocks are `block` bytes each.
  Status all_to_all(std::span<const std::byte> send, std::span<std::byte> receive, int64_t block, DType dtype,
                    const CallSite& at = {});
  // What `root` holds in `bytes` is what everybody holds afterwards.
  Status broadcast(std::span<std::byte> bytes, int32_t root, DType dtype, const CallSite& at = {});

  // From now on the members' devices exchange what lies in their memory. All members do it at the same place
  // among their collectives.
  void connect(std::unique_ptr<DeviceLink> link);
  bool connected() const { return link_ != nullptr; }
  // Enqueues a collective on the queue of a device, `on.queue`, and returns; sizes are those of the calls
  // above. Whether the others have enqueued the same is found out by settle(). Errors: kInternal for a group
  // that is not connected and sizes that do not fit; the link's; the first reason of a closed communicator.
  Status enqueue(const Wanted& wanted, std::span<const std::byte> send, std::span<std::byte> receive,
                 const Worker& on);
  // Whether all members have enqueued the same since they last asked, while the devices work on it. All call
  // it together, unless none has enqueued anything. Errors: kInternal with a fault (G1): who said what; those
  // of all_gather. Cost: one exchange of 16 bytes on the host.
  Status settle();

  // Closes the communicator, for this member and whoever it can still reach. The first reason stays.
  void fail(const Status& why);
  Status status() const;
  // Told once of why the communicator was closed, by the thread that has closed it. To be set before anybody
  // else knows the communicator.
  void on_fail(std::function<void(const Status& why)> told) { on_fail_ = std::move(told); }

 protected:
  Communicator(Membership group, Ledger* ledger);
  GroupNames names() const { return {group_.name, group_.members}; }

  // Blocking, on checked sizes, in a group of more than one.
  virtual Status run(const Exchange& exchange) = 0;
  virtual void close(const Status& why) = 0;  // lets waiting members go; called once, by any thread

 private:
  void number(Call& call, const CallSite& at);
  void place_of_turn(Call& call, const CallSite& at);
  void note(const Call& call, const CallSite& at);
  Status enter(Call call, const CallSite& at, std::span<const std::byte> send, std::span<std::byte> receive);
  Status carry(const Call& call, std::span<const std::byte> send, std::span<std::byte> receive);
  Status compare_enqueued(const std::vector<uint64_t>& counts);
  Status refuse(const Status& why);

  Membership group_;
  Ledger* ledger_;  // of this rank, outlives the communicator; null: nobody keeps one
  uint64_t entered_ = 0;
  uint64_t carried_ = 0;        // exchanges, by the fabric
  std::vector<Call> enqueued_;  // since the last settle(), without their steps
  Digest enqueued_digest_ = 0;  // of these
  std::shared_ptr<DeviceLink> link_;
  std::function<void(const Status& why)> on_fail_;
  mutable std::mutex mutex_;
  Status closed_;
};

// Those of `all` that say the same color are one group. All call it together. Errors: those of all_gather.
Result<Membership> join(Communicator& all, std::string_view name, int32_t color);

}  // namespace lockstep
