// Stream and launch: how work reaches a device. A kernel is a plain function of its trivially copyable Args;
// a launch copies the bytes of the Args, so that what was recorded cannot change behind anyone's back.
#pragma once

#include <cstdint>
#include <cstring>
#include <string_view>
#include <type_traits>

#include "device/thread_pool.h"

namespace lockstep {

// A CPU kernel: part `worker.index` of `worker.count` of the work described by `args`. It touches only what
// its OpSpec declares; no two parts write the same byte.
template <typename Args>
using Kernel = void (*)(const Args& args, Worker worker);

// Where in the model a launch stands; travels with it to the observer.
struct LaunchSite {
  std::string_view op;     // "rms_norm": static storage
  std::string_view stage;  // "input_norm": static storage
  int32_t layer = -1;      // -1: outside the layers
};

// One launch as an observer sees it.
struct LaunchRecord {
  LaunchSite site;
  const void* args = nullptr;  // the copied bytes
  int64_t args_bytes = 0;
};

// The one slot through which tools watch launches (probes, recorder, timers). Null: nobody watches, no cost.
struct LaunchObserver {
  void (*before)(void* self, const LaunchRecord& launch) = nullptr;
  void (*after)(void* self, const LaunchRecord& launch) = nullptr;
  void* self = nullptr;
};

// An ordered queue of launches on a CPU thread pool.
// Thread: one owner. Cost: a launch runs at once on all threads of the pool and returns when they are done.
class Stream {
 public:
  explicit Stream(int threads) : pool_(threads) {}

  using Thunk = void (*)(const void* args, Worker worker);
  static constexpr int64_t kMaxArgsBytes = 4096;  // CUDA's limit on kernel parameters

  void enqueue(const LaunchSite& site, Thunk thunk, const void* args, int64_t bytes);
  void set_observer(const LaunchObserver& observer) { observer_ = observer; }
  // The layer that following launches belong to; set by the decoder loop.
  void set_layer(int32_t layer) { layer_ = layer; }
  int32_t layer() const { return layer_; }
  int threads() const { return pool_.size(); }
  int64_t launches() const { return launches_; }

 private:
  ThreadPool pool_;
  LaunchObserver observer_;
  int32_t layer_ = -1;
  int64_t launches_ = 0;
};

namespace internal {
// What the stream copies: the kernel's address and its Args, side by side.
template <typename Args>
struct Packed {
  Kernel<Args> kernel;
  Args args;
  static void call(const void* bytes, Worker worker) {
    const auto* packed = static_cast<const Packed*>(bytes);
    packed->kernel(packed->args, worker);
  }
};
}  // namespace internal

// Enqueues `kernel(args)`. The only way to run a kernel.
template <typename Args>
void launch(Stream& stream, std::string_view op, std::string_view stage, Kernel<Args> kernel,
            const Args& args) {
  static_assert(std::is_trivially_copyable_v<Args>, "a launch copies the bytes of its Args");
  static_assert(sizeof(internal::Packed<Args>) <= Stream::kMaxArgsBytes);
  const internal::Packed<Args> packed{kernel, args};
  stream.enqueue({.op = op, .stage = stage, .layer = stream.layer()}, internal::Packed<Args>::call, &packed,
                 sizeof(packed));
}

}  // namespace lockstep
