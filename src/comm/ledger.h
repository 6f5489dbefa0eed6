// Ledger: the collectives that a rank has entered, newest last. Written by the compute thread, which never
// waits for a reader; read by the control thread and by whoever writes a report.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/dtype.h"

namespace lockstep {

// Where in a step a collective stands: what tells it from others of the same op, type and size. Without
// padding, since it travels in the Args of launches.
struct CallSite {
  std::string_view stage;  // "moe_sum": static storage; empty: not said
  int64_t layer = -1;      // -1: outside the layers
};
std::string describe(std::string_view stage, int64_t layer);  // "layer 3 moe_sum"; empty without a stage

// One collective, as this rank entered it. Texts are static.
struct CollectiveEntry {
  uint64_t sequence = 0;  // from 1, over all groups of the rank
  uint64_t epoch = 0;     // of the step
  std::string_view op;    // "all_gather"
  std::string_view group;
  DType dtype = DType::kF32;
  int64_t count = 0;    // elements of this rank
  uint64_t number = 0;  // of the collectives of this group, from 1
  CallSite at;
  bool finished = false;  // false: still in it
};

// Thread: one writer, any readers. Cost: tens of ns per entry, no allocation.
class Ledger {
 public:
  static constexpr size_t kEntries = 1024;

  // For the writer: the step that following collectives belong to; one is entered, and gets its sequence and
  // epoch here; the newest is left; or all of them, by a rank whose device has done what it was given.
  void begin_step(uint64_t epoch) { epoch_.store(epoch, std::memory_order_relaxed); }
  void enter(const CollectiveEntry& collective);
  void leave();
  void leave_all();

  uint64_t entered() const { return entered_.load(std::memory_order_acquire); }
  uint64_t epoch() const { return epoch_.load(std::memory_order_relaxed); }
  // Of the last `most` entries those that are whole, oldest first.
  std::vector<CollectiveEntry> last(size_t most) const;

 private:
  struct Slot {
    std::atomic<uint64_t> version{0};  // odd: being written
    std::atomic<uint64_t> sequence{0};
    std::atomic<uint64_t> epoch{0};
    std::atomic<const char*> op{nullptr};
    std::atomic<size_t> op_size{0};
    std::atomic<const char*> group{nullptr};
    std::atomic<size_t> group_size{0};
    std::atomic<DType> dtype{DType::kF32};
    std::atomic<int64_t> count{0};
    std::atomic<uint64_t> number{0};
    std::atomic<const char*> stage{nullptr};
    std::atomic<size_t> stage_size{0};
    std::atomic<int64_t> layer{-1};
    std::atomic<bool> finished{false};
  };
  std::array<Slot, kEntries> slots_;
  std::atomic<uint64_t> entered_{0};
  uint64_t left_ = 0;  // of the writer: all up to this one are
  std::atomic<uint64_t> epoch_{0};
};

}  // namespace lockstep
