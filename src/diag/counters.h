// Named counters: how often something happened that a person may want to know of (a graph that was given up
// and why, tokens made, pages taken back). They belong to the engine that counts; none is global.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace lockstep {

// Thread: any. Names are metric names without prefix: "graph_lost_total{reason=\"shape\"}".
class Counters {
 public:
  using Counter = std::atomic<int64_t>;

  // The counter of that name, from 0 when it is first asked for. The reference holds as long as this object:
  // hot paths look it up once. Cost: a lock and O(log counters).
  Counter& of(std::string_view name);

  void add(std::string_view name, int64_t amount = 1) {
    of(name).fetch_add(amount, std::memory_order_relaxed);
  }

  // All counters by name. Each value is read once; together they are no snapshot of one moment.
  std::vector<std::pair<std::string, int64_t>> values() const;

 private:
  mutable std::mutex mutex_;
  std::map<std::string, Counter, std::less<>> counters_;
};

}  // namespace lockstep
