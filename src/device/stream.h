// Stream and launch: how work reaches a device. A kernel is a plain function of its trivially copyable Args;
// a launch copies the bytes of the Args, so that what was recorded cannot change behind anyone's back.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstring>
#include <deque>
#include <memory>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "base/digest.h"
#include "base/status.h"
#include "device/device.h"
#include "device/thread_pool.h"
#include "tensor/op_spec.h"

namespace lockstep {

class Graph;
class StagingRing;
class StagingLease;

// A kernel: part `worker.index` of `worker.count` of the work described by `args`. It touches only what its
// OpSpec declares; no two parts write the same byte. A device's kernel launches all of it on `worker.queue`.
template <typename Args>
using Kernel = void (*)(const Args& args, Worker worker);

// Where in the model a launch stands; travels with it to the observer and into a graph.
struct LaunchSite {
  const OpSpec* spec = nullptr;  // static storage
  std::string_view stage;        // "input_norm": static storage
  int32_t layer = -1;            // -1: outside the layers

  std::string_view op() const { return spec->name; }
};

// One launch as an observer sees it.
struct LaunchRecord {
  LaunchSite site;
  const void* args = nullptr;  // the copied bytes of the op's Args, as site.spec describes them
  int64_t args_bytes = 0;
  // Does the launch once more, unobserved and uncounted: rerun(again). Null where a launch is only looked at.
  void (*rerun)(const void* again) = nullptr;
  const void* again = nullptr;
};

// The one slot through which tools watch launches (probes, recorder, timers). Null: nobody watches, no cost.
// Between the two calls the launch runs; both may look at its memory, and after() may run it once more.
struct LaunchObserver {
  void (*before)(void* self, const LaunchRecord& launch) = nullptr;
  void (*after)(void* self, const LaunchRecord& launch) = nullptr;
  void* self = nullptr;
};

// When a stream does what it was given.
enum class Pace : uint8_t {
  kAtOnce,  // each piece of work as soon as it is enqueued
  kLate,    // each as late as allowed: when somebody waits for it. For tests: whoever forgot to wait is seen
};

// How many threads share a launch.
enum class Parts : uint8_t {
  kAll,  // every thread of the pool
  kOne,  // the caller's alone: for work that is smaller than the signal to the others
};

// A place in a stream's order of work.
struct Event {
  int64_t sequence = 0;  // 0: before everything
};

namespace internal {
using Thunk = void (*)(const void* args, Worker worker);

// A launch as it lies in a queue or a graph: what to call, and the bytes of its Args.
struct LaunchNode {
  LaunchSite site;
  Thunk thunk = nullptr;  // calls the kernel, whose address lies behind the Args
  Parts parts = Parts::kAll;
  int64_t args_bytes = 0;
  std::vector<unsigned char> bytes;  // Packed<Args>
};
}  // namespace internal

// An ordered queue of work on a CPU thread pool or a device: launches, copies from the host, and replays of
// graphs. What a device refuses or fails is kept and told by check().
// Thread: one owner.
class Stream {
 public:
  explicit Stream(int threads, Pace pace = Pace::kAtOnce) : pool_(threads), pace_(pace) {}
  // On a queue of a device, which has a pace of its own; without one as above.
  Stream(DevicePtr device, std::unique_ptr<DeviceQueue> queue, int threads = 1, Pace pace = Pace::kAtOnce)
      : pool_(queue != nullptr ? 1 : threads),
        pace_(queue != nullptr ? Pace::kAtOnce : pace),
        device_(std::move(device)),
        work_(std::move(queue)) {}
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  static constexpr int64_t kMaxArgsBytes = 4096;  // CUDA's limit on kernel parameters

  // For launch(): `bytes` of a Packed<Args>.
  void enqueue(const LaunchSite& site, internal::Thunk thunk, const void* packed, int64_t bytes,
               int64_t args_bytes, Parts parts);

  // Copies the lease's bytes to `target` when its turn comes; the lease is given back to its ring then.
  // Nobody writes to those bytes in between: check_copies() tells. Errors: kInternal while a graph is being
  // captured, whose replays would copy whatever the memory holds by then (L1), or when `target` and the lease
  // differ in size.
  Status copy(const TensorView& target, StagingLease&& lease);
  // Copies device bytes to `target` when its turn comes; nobody reads `target` before `done` of the event
  // recorded after it. Errors: as copy().
  Status download(const TensorView& source, const TensorView& target);
  // The same for tools and start-up: copies dense memory and waits for everything before. Errors: as copy().
  Status read(const TensorView& source, void* target);
  Status write(const TensorView& target, const void* source);

  // Whether the device did what it was given, and every copy so far has read what was handed over with it.
  // Errors: kInternal as the device says, which stays; kInternal (L5) for the first copy whose staging memory
  // was refilled meanwhile; once.
  Status check_copies();

  // Between the two, launches are recorded into `graph` and nothing runs. Errors: kInternal while another
  // capture is under way.
  Status begin_capture(Graph& graph);
  void end_capture();
  bool capturing() const { return graph_ != nullptr; }
  // Runs a captured graph when its turn comes. The graph stays where it is until then.
  // Errors: kInternal while capturing.
  Status replay(const Graph& graph);
  // Makes of a recording what a device replays with one call; nothing on the CPU. Errors: as the device says.
  Status instantiate(Graph& graph);

  Event record();  // everything enqueued so far
  bool done(Event event);
  void wait(Event event);  // until everything before the event is done
  void synchronize() { wait(record()); }

  void set_observer(const LaunchObserver& observer) { observer_ = observer; }
  // Counts launches for a watch in another thread as they begin, beside whatever else is counted there. Null:
  // nobody watches. It outlives the stream, or is taken away before.
  void set_pulse(std::atomic<uint64_t>* pulse) { pulse_ = pulse; }
  // The layer that following launches belong to; set by the decoder loop.
  void set_layer(int32_t layer) { layer_ = layer; }
  int32_t layer() const { return layer_; }
  // For measuring: whether each piece of work of a device, a launch, copy or replay, stands between two ticks
  // from now on. It costs the host about a microsecond each.
  void set_timed(bool on) { timed_ = on; }
  // Microseconds that the device worked on pieces since the last call; waits for them. Errors: as the device
  // says.
  Result<double> busy_us();
  int threads() const { return pool_.size(); }
  // Host work of the caller's own on the pool's other threads: task(args, part), until wait_beside() or until
  // a launch needs them.
  void run_beside(ThreadPool::Task task, const void* args) { pool_.start(task, args); }
  void wait_beside() { pool_.wait(); }
  Device* device() const { return device_.get(); }    // null: the pool
  DeviceQueue* queue() const { return work_.get(); }  // likewise
  Pace pace() const { return pace_; }
  int64_t launches() const { return launches_; }  // done, those of replays included

 private:
  struct Copy {
    TensorView target;
    const void* source = nullptr;
    StagingRing* ring = nullptr;  // null: a download
    int32_t slot = 0;
    Digest digest = 0;     // of the source, where it waits in the queue
    int64_t sequence = 0;  // on a device: its place
  };
  // One piece of work of the queue; a graph is replayed.
  using Work = std::variant<internal::LaunchNode, const Graph*, Copy>;
  class Timed;  // a piece of work while it is handed to the device
  template <typename What>
  void add(What&& what);  // does it, or puts it into the queue
  void run(const Work& work);
  void run(const Graph* graph);
  void run(const internal::LaunchNode& node);
  void run_launch(const LaunchSite& site, internal::Thunk thunk, const void* packed, int64_t args_bytes,
                  Parts parts);
  void run(const Copy& copy);
  void hand_over(const Copy& copy);  // to the device
  void note(Status status);          // keeps the first
  void land();                       // gives back the staging memory of copies that are done
  void check_refill(const Copy& copy);
  bool at_once() const { return queue_.empty() && pace_ == Pace::kAtOnce; }

  ThreadPool pool_;
  Pace pace_;
  std::deque<Work> queue_;  // not done yet; empty at pace kAtOnce
  Graph* graph_ = nullptr;  // being captured
  LaunchObserver observer_;
  std::atomic<uint64_t>* pulse_ = nullptr;
  int32_t layer_ = -1;
  Status refilled_;  // the first copy that has read something else
  int64_t enqueued_ = 0;
  int64_t done_ = 0;
  int64_t launches_ = 0;
  DevicePtr device_;
  std::unique_ptr<DeviceQueue> work_;  // of the device; null: the pool
  std::deque<Copy> in_flight_;         // that the device has not done yet, of staging memory
  Status failed_;                      // the first thing that the device has refused or failed
  int64_t marked_ = 0;                 // the newest place that the device was asked to mark
  bool timed_ = false;
  std::vector<int64_t> ticks_;  // before and after each piece
};

namespace internal {
// What a launch copies: the Args and the kernel's address behind them.
template <typename Args>
struct Packed {
  Args args;
  Kernel<Args> kernel;
  static void call(const void* bytes, Worker worker) {
    const auto* packed = static_cast<const Packed*>(bytes);
    packed->kernel(packed->args, worker);
  }
};
}  // namespace internal

// Enqueues `kernel(args)`. The only way to run a kernel. `spec` describes Args.
template <typename Args>
void launch(Stream& stream, const OpSpec& spec, std::string_view stage, Kernel<Args> kernel, const Args& args,
            Parts parts = Parts::kAll) {
  static_assert(std::is_trivially_copyable_v<Args>, "a launch copies the bytes of its Args");
  static_assert(sizeof(internal::Packed<Args>) <= Stream::kMaxArgsBytes);
  const internal::Packed<Args> packed{args, kernel};
  stream.enqueue({.spec = &spec, .stage = stage, .layer = stream.layer()}, internal::Packed<Args>::call,
                 &packed, sizeof(packed), sizeof(Args), parts);
}

}  // namespace lockstep
