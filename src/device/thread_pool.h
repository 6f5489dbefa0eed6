// A pinned pool of threads that runs one plain function on all of them and returns when all are done.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

namespace lockstep {

// Which share of a launch a thread runs: part `index` of `count`.
struct Worker {
  int index = 0;
  int count = 1;
  void* queue = nullptr;  // of a device: where its kernels launch. Null: this thread computes

  // The half-open range of items [0, total) that falls to this worker, contiguous, in units of `grain`.
  struct Range {
    int64_t begin = 0;
    int64_t end = 0;
  };
  Range share(int64_t total, int64_t grain = 1) const {
    const int64_t units = (total + grain - 1) / grain;
    const int64_t begin = units * index / count * grain;
    const int64_t end = units * (index + 1) / count * grain;
    return {begin < total ? begin : total, end < total ? end : total};
  }
};

// Cost: a launch is one store and one spin per thread, about a microsecond; threads that find no work for a
// while sleep and wake by futex. Thread: one owner, who works as part 0.
class ThreadPool {
 public:
  // threads >= 1, the caller included. Pins thread i to the i-th CPU of the process's affinity mask when the
  // mask has at least `threads` CPUs.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  using Task = void (*)(const void* args, Worker worker);
  void run(Task task, const void* args);
  // The same without part 0: the others begin, and the caller goes on with something else. Whatever the pool
  // is asked for next waits for them first, as wait() does.
  void start(Task task, const void* args);
  void wait() {
    if (running_.load(std::memory_order_acquire) != 0) wait_for_others();
  }
  int size() const { return count_; }

 private:
  void work(int index);
  void wait_for_others();

  int count_ = 1;
  Task task_ = nullptr;
  const void* args_ = nullptr;
  alignas(64) std::atomic<uint32_t> generation_{0};
  alignas(64) std::atomic<int> running_{0};
  std::atomic<bool> stopping_{false};
  std::vector<std::thread> threads_;
};

}  // namespace lockstep
