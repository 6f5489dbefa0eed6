#include "device/thread_pool.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>

namespace lockstep {
namespace {

// About 20 us of polling before a thread yields or sleeps: longer than the gap between two launches of a
// step.
constexpr int kSpins = 4000;

inline void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

std::vector<int> allowed_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  std::vector<int> cpus;
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return cpus;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &set)) cpus.push_back(cpu);
  }
  return cpus;
}

}  // namespace

ThreadPool::ThreadPool(int threads) : count_(std::max(threads, 1)) {
  const std::vector<int> cpus = allowed_cpus();
  threads_.reserve(static_cast<size_t>(count_ - 1));
  for (int i = 1; i < count_; ++i) {
    threads_.emplace_back([this, i] { work(i); });
    // Only the pool's own threads are pinned: the caller belongs to somebody else.
    if (static_cast<int>(cpus.size()) >= count_) {
      cpu_set_t one;
      CPU_ZERO(&one);
      CPU_SET(cpus[static_cast<size_t>(i)], &one);
      pthread_setaffinity_np(threads_.back().native_handle(), sizeof(one), &one);
    }
  }
}

ThreadPool::~ThreadPool() {
  wait();
  stopping_.store(true);
  generation_.fetch_add(1);
  generation_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void ThreadPool::run(Task task, const void* args) {
  if (count_ == 1) return task(args, {0, 1});
  start(task, args);
  task(args, {0, count_});
  wait();
}

void ThreadPool::start(Task task, const void* args) {
  wait();
  task_ = task;
  args_ = args;
  running_.store(count_ - 1, std::memory_order_relaxed);
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
}

void ThreadPool::wait_for_others() {
  for (int spins = 0; running_.load(std::memory_order_acquire) != 0; ++spins) {
    if (spins < kSpins) {
      relax();
    } else {
      std::this_thread::yield();  // more threads than cores: let them run
    }
  }
}

void ThreadPool::work(int index) {
  uint32_t seen = 0;
  while (true) {
    for (int spins = 0; generation_.load(std::memory_order_acquire) == seen; ++spins) {
      if (spins < kSpins) {
        relax();
      } else {
        generation_.wait(seen, std::memory_order_acquire);
      }
    }
    seen = generation_.load(std::memory_order_acquire);
    if (stopping_.load()) return;
    task_(args_, {index, count_});
    running_.fetch_sub(1, std::memory_order_release);
  }
}

}  // namespace lockstep
