// Device: an accelerator as Arena, Staging, Stream and Graph see it: its memory, and queues that run in
// order. The CPU is none: wherever a Device is expected, null means memory of this process and a pool of
// threads.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/status.h"

namespace lockstep {

struct Roofs;

// What a queue has made of a recording: runs with one call, with the bytes of its launches as they were.
class DeviceGraph {
 public:
  virtual ~DeviceGraph() = default;
};

// Work in order. Every call returns at once but wait(). Thread: one owner, the stream's.
class DeviceQueue {
 public:
  virtual ~DeviceQueue() = default;

  // What kernels are told of the queue (Worker::queue).
  virtual void* native() = 0;
  // The first launch or copy that the device has refused or failed so far. Errors: kInternal, as the device
  // says.
  virtual Status status() = 0;

  // Host memory is pinned, or the call waits for it.
  virtual Status to_device(void* target, const void* source, int64_t bytes) = 0;
  virtual Status to_host(void* target, const void* source, int64_t bytes) = 0;

  // A place in the queue, behind everything so far. Numbers rise.
  virtual Status mark(int64_t sequence) = 0;
  virtual bool done(int64_t sequence) = 0;  // precondition: at or before a mark
  virtual Status wait(int64_t sequence) = 0;

  // A moment in the device's own time, behind everything so far; numbered from 0 on. For measuring, as it may
  // take memory.
  virtual Result<int64_t> tick() = 0;
  // Waits for `to`, then tells how much later than `from` it was, in microseconds.
  virtual Result<double> us_between(int64_t from, int64_t to) = 0;
  virtual void forget_ticks() = 0;

  // Between the two, launches go into a recording and do not run.
  virtual Status begin_recording() = 0;
  virtual Result<std::unique_ptr<DeviceGraph>> end_recording() = 0;
  virtual Status replay(const DeviceGraph& graph) = 0;
};

// Thread: one at a time, but for uploads.
class Device {
 public:
  virtual ~Device() = default;
  virtual std::string description() const = 0;  // "NVIDIA H200, 132 multiprocessors"

  struct Memory {
    int64_t total = 0;
    int64_t available = 0;
  };
  virtual Memory memory() const = 0;

  // Zeroed memory of the device, aligned to 256 bytes. Errors: kResourceExhausted.
  virtual Result<void*> allocate(int64_t bytes) = 0;
  virtual void release(void* memory) = 0;
  // Host memory that asynchronous copies read and write. Errors: kResourceExhausted.
  virtual Result<void*> allocate_pinned(int64_t bytes) = 0;
  virtual void release_pinned(void* memory) = 0;

  // Copies and waits; for load time. Thread: any number.
  virtual Status upload(void* target, const void* source, int64_t bytes) = 0;

  virtual Result<std::unique_ptr<DeviceQueue>> make_queue() = 0;

  // As measure_roofs(), on a queue of its own. Errors: kResourceExhausted without 1 GiB of memory.
  virtual Result<Roofs> measure_roofs(double seconds) = 0;
};

using DevicePtr = std::shared_ptr<Device>;

}  // namespace lockstep
