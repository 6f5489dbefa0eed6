// Bench support: a caller that stays on its core, the machine's roofs, and the fastest of many calls.
#pragma once

#include <benchmark/benchmark.h>
#include <sched.h>

#include <algorithm>

#include "base/clock.h"
#include "device/roofs.h"

namespace lockstep::matmul_bench {

// Keeps the calling thread on the first CPU, as the pool's threads are on theirs: a scheduler under load may
// otherwise put two of them on one core.
class PinnedCaller {
 public:
  PinnedCaller() {
    CPU_ZERO(&before_);
    sched_getaffinity(0, sizeof(before_), &before_);
    int first = 0;
    while (first < CPU_SETSIZE - 1 && !CPU_ISSET(first, &before_)) ++first;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(first, &one);
    sched_setaffinity(0, sizeof(one), &one);
  }
  ~PinnedCaller() { sched_setaffinity(0, sizeof(before_), &before_); }
  PinnedCaller(const PinnedCaller&) = delete;
  PinnedCaller& operator=(const PinnedCaller&) = delete;

 private:
  cpu_set_t before_;
};

// Measured once per process, with the first bench's threads.
inline const Roofs& roofs(Stream& stream) {
  static const Roofs measured = measure_roofs(stream, detect_cpu().best).value();
  return measured;
}

// What one call reads and computes, and the roof of its arithmetic.
struct Work {
  double bytes = 0;
  double flop = 0;
  double gflop_roof = 0;
};

// Times call() and reports its fastest run, since other work on the machine can only slow one down: as shares
// of both roofs, and of the time that the nearer one allows (`of_roof`).
template <typename Call>
void report(benchmark::State& state, const Work& work, const Roofs& roof, Call&& call) {
  double best = 1e9;
  for (auto _ : state) {
    const int64_t start = now_ns();
    if (!call().ok()) state.SkipWithError("refused");
    const double seconds = seconds_since(start);
    state.SetIterationTime(seconds);
    best = std::min(best, seconds);
  }
  const double of_read = work.bytes / best * 1e-9 / roof.read_gb_per_s;
  const double of_flop = work.flop / best * 1e-9 / work.gflop_roof;
  state.counters["best_us"] = best * 1e6;
  state.counters["GB/s"] = work.bytes / best * 1e-9;
  state.counters["GFLOP/s"] = work.flop / best * 1e-9;
  state.counters["of_read"] = of_read;
  state.counters["of_flop"] = of_flop;
  state.counters["of_roof"] = std::max(of_read, of_flop);
}

}  // namespace lockstep::matmul_bench
