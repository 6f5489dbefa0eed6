#include <atomic>
#include <chrono>
#include <future>
#include <mutex>
#include <thread>

#include "comm/nccl_library.cuh"
#include "comm/nccl_link.h"
#include "device/arena.h"
#include "device/cuda/cuda_queue.cuh"

namespace lockstep {
namespace {

// How long an end waits for the library to let go of what was aborted.
constexpr std::chrono::seconds kPatience{2};
constexpr int64_t kWarmUpBytes = 4096;

// What a link and the thread that aborts it share.
struct Joined {
  std::shared_ptr<const NcclLibrary> library;
  ncclComm_t comm = nullptr;
  std::mutex mutex;  // held while the library is called
  std::atomic<bool> closed{false};
  std::promise<void> aborted;

  void abort() {
    {
      const std::lock_guard lock(mutex);
      library->CommAbort(comm);
    }
    aborted.set_value();
  }
};

class Link final : public DeviceLink {
 public:
  explicit Link(std::shared_ptr<Joined> joined) : joined_(std::move(joined)) {}

  // Graphs that use the communicator are gone by now: the library waits for them.
  ~Link() override {
    if (!joined_->closed) {
      joined_->library->CommDestroy(joined_->comm);
    } else {
      joined_->aborted.get_future().wait_for(kPatience);
    }
  }

  Status run(const Exchange& exchange, void* queue) override {
    const std::lock_guard lock(joined_->mutex);
    if (joined_->closed) return error(Code::kDevice, "nccl: the group is closed; expected an open one");
    const cudaStream_t stream = static_cast<CudaQueue*>(queue)->stream();
    const NcclLibrary& library = *joined_->library;
    switch (exchange.call.op) {
      case Collective::kAllGather:
        return library.check(library.AllGather(exchange.send.data(), exchange.receive.data(),
                                               exchange.send.size(), ncclUint8, joined_->comm, stream),
                             "an all-gather");
      case Collective::kBroadcast:
        return library.check(
            library.Broadcast(exchange.send.data(), exchange.receive.data(), exchange.send.size(), ncclUint8,
                              exchange.call.root, joined_->comm, stream),
            "a broadcast");
      case Collective::kAllToAll: return all_to_all(exchange, stream);
      case Collective::kNothing: break;
    }
    return {};
  }

  bool records(void* queue) const override {
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    const cudaError_t code = cudaStreamIsCapturing(static_cast<CudaQueue*>(queue)->stream(), &status);
    return code == cudaSuccess && status == cudaStreamCaptureStatusActive;
  }

  // The thread goes on without this link: the library may wait for the device.
  void close() override {
    if (!joined_->closed.exchange(true)) std::thread([joined = joined_] { joined->abort(); }).detach();
  }

 private:
  Status all_to_all(const Exchange& exchange, cudaStream_t stream) {
    const NcclLibrary& library = *joined_->library;
    LS_TRY(library.check(library.GroupStart(), "a group"));
    Status first;
    for (int32_t member = 0; member < exchange.size; ++member) {
      const std::span<const std::byte> out = exchange.to(member);
      const std::span<std::byte> in = exchange.from(member);
      Status sent = library.check(
          library.Send(out.data(), out.size(), ncclUint8, member, joined_->comm, stream), "a send");
      Status received = library.check(
          library.Recv(in.data(), in.size(), ncclUint8, member, joined_->comm, stream), "a receive");
      if (first.ok()) first = sent.ok() ? std::move(received) : std::move(sent);
    }
    Status ended = library.check(library.GroupEnd(), "a group of sends and receives");
    return first.ok() ? ended : first;
  }

  std::shared_ptr<Joined> joined_;
};

// Every kind of exchange once, so that none of them connects anything in a step.
Status warm_up(DeviceLink& link, const Communicator& group, Device& device, DeviceQueue& queue) {
  const int64_t ranks = group.size();
  const Arena arena =
      LS_TRY(Arena::create("warm-up", 2 * ranks * kWarmUpBytes, DevicePtr(&device, [](Device*) {})));
  auto* memory = static_cast<std::byte*>(const_cast<void*>(arena.data()));
  const auto block = static_cast<size_t>(kWarmUpBytes), all = static_cast<size_t>(ranks * kWarmUpBytes);
  const std::span<std::byte> receive(memory + all, all);
  const auto run = [&](Collective op, std::span<std::byte> send, std::span<std::byte> into) {
    const Call call{.op = op, .root = 0, .bytes = static_cast<int64_t>(send.size())};
    return link.run(
        {.call = call, .turn = 0, .rank = group.rank(), .size = group.size(), .send = send, .receive = into},
        queue.native());
  };
  LS_TRY(run(Collective::kAllGather, {memory, block}, receive));
  LS_TRY(run(Collective::kAllToAll, {memory, all}, receive));
  LS_TRY(run(Collective::kBroadcast, {memory, block}, {memory, block}));
  LS_TRY(queue.mark(1));
  return queue.wait(1);
}

}  // namespace

Result<std::unique_ptr<DeviceLink>> NcclLink::create(Communicator& group, Device& device) {
  auto joined = std::make_shared<Joined>();
  joined->library = LS_TRY(NcclLibrary::open());
  const NcclLibrary& library = *joined->library;
  ncclUniqueId id{};
  if (group.rank() == 0) LS_TRY(library.check(library.GetUniqueId(&id), "an id"));
  LS_TRY(group.broadcast(std::as_writable_bytes(std::span(&id, 1)), 0, DType::kU8, {.stage = "nccl_id"}));
  // Makes the device this thread's, too.
  const std::unique_ptr<DeviceQueue> queue = LS_TRY(device.make_queue());
  LS_TRY(library.check(library.CommInitRank(&joined->comm, group.size(), id, group.rank()),
                       concat("the ranks of ", group.name(), " on ", device.description())));
  auto link = std::make_unique<Link>(std::move(joined));
  LS_TRY(warm_up(*link, group, device, *queue));
  return std::unique_ptr<DeviceLink>(std::move(link));
}

}  // namespace lockstep
