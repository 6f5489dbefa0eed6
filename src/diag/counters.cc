#include "diag/counters.h"

namespace lockstep {

Counters::Counter& Counters::of(std::string_view name) {
  const std::lock_guard lock(mutex_);
  const auto at = counters_.find(name);
  if (at != counters_.end()) return at->second;
  return counters_.try_emplace(std::string(name), 0).first->second;
}

std::vector<std::pair<std::string, int64_t>> Counters::values() const {
  const std::lock_guard lock(mutex_);
  std::vector<std::pair<std::string, int64_t>> out;
  out.reserve(counters_.size());
  for (const auto& [name, counter] : counters_)
    out.emplace_back(name, counter.load(std::memory_order_relaxed));
  return out;
}

}  // namespace lockstep
