// FlightRecorder: what the last steps of a rank were, kept always and in a fixed amount of memory, so that a
// fault can be explained from what is there already.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "contract/binder.h"
#include "device/memory_map.h"
#include "guard/record.h"
#include "guard/recorded_tables.h"
#include "plan/zeroed_array.h"

namespace lockstep {

// A derived field's name and memory.
struct DerivedHandle {
  std::string field;
  Handle memory;
};

struct RecorderOptions {
  RankEntry rank;  // facts and limits; where the recorded steps begin is the recorder's to say
  int32_t steps = 64;
  int32_t binding_sets = 32;   // kept apart; steps that share one share its memory
  int32_t max_bindings = 256;  // of one step; more are left out
  Handle image;                // of the plan on the device
  std::vector<DerivedHandle> derived;
};

// Thread: one writer. snapshot() may be called from any thread, also while the writer is stuck in a step, and
// never makes the writer wait.
// Cost: one copy of the plan's image, ids, digests and tokens; no allocation.
class FlightRecorder {
 public:
  explicit FlightRecorder(RecorderOptions options);

  // Bytes for steps and tables. Memory is touched as steps need it: a small step costs what it holds.
  static int64_t footprint(const RecorderOptions& options);
  static constexpr int64_t kReason = 120;

  // A plan, before anything is done with it. A refused plan's table edits are never applied.
  struct Began {
    const StepPlan& plan;
    std::span<const uint64_t> sequence_ids;  // of the live sequences, in the plan's order
    bool refused = false;
  };
  void begin(const Began& step);

  // How it is about to run, and why not by a graph: kReason bytes at most, more are cut.
  struct Prepared {
    RunKind run = RunKind::kEager;
    std::string_view reason{};
    Digest graph_key = 0;
    std::span<const Binding> bindings;
    Digest bindings_digest = 0;  // where it is known already; 0: digest_of(bindings) is computed
  };
  void prepared(const Prepared& step);

  // What came back from one of the two newest steps; the older ends first. Spans may be empty; more entries
  // than the limits allow are left out.
  struct Ended {
    uint64_t epoch = 0;  // of a step that is not the newest; else the newest is meant
    uint64_t head_epoch = 0;
    std::span<const Digest> head;
    Digest tail = 0;
    std::span<const TokenId> tokens;
    std::span<const int32_t> non_finite;
  };
  void end(const Ended& step);

  // Everything recorded so far, but for collectives, which are in the rank's ledger. While the writer goes
  // on, the newest steps may be missing. Allocates.
  Record snapshot() const;

 private:
  // Who uses a piece of memory: -1 the writer, otherwise so many readers.
  class Hold {
   public:
    bool try_write();
    void end_write() { state_.store(0, std::memory_order_release); }
    bool try_read();
    void end_read() { state_.fetch_sub(1, std::memory_order_release); }

   private:
    std::atomic<int32_t> state_{0};
  };
  // A list inside an image.
  struct ListPlace {
    int32_t offset = 0;
    int32_t count = 0;
  };
  // Written in three parts; a reader looks at a part once the slot's serial number stands in it.
  struct Slot {
    Hold hold;
    std::atomic<uint64_t> serial{0}, prepared{0}, ended{0};  // 0: nothing

    uint64_t epoch = 0;
    Bucket bucket;
    bool refused = false;
    Digest plan_digest = 0;
    int32_t live_logits_rows = 0;
    int64_t image_bytes = 0, ids = 0;
    std::array<ListPlace, kMaxGroups> edits;
    int64_t began_ns = 0;

    RunKind run = RunKind::kEager;
    std::array<char, kReason> reason{};
    int64_t reason_bytes = 0;
    Digest graph_key = 0;
    uint64_t binding_set = 0;

    uint64_t head_epoch = 0;
    Digest tail = 0;
    int64_t heads = 0, tokens = 0, non_finite = 0;
    int64_t took_ns = 0;
  };
  struct BindingSet {
    Hold hold;
    uint64_t number = 0;  // counts the sets that differed; 0: nothing
    Digest digest = 0;
    uint64_t last_used = 0;  // serial number of a step
    uint64_t first_epoch = 0;
    int64_t count = 0;
  };
  // Where each part of a slot lies in memory_.
  struct Places {
    int64_t image = 0, ids = 0, head = 0, tokens = 0, non_finite = 0, slot_bytes = 0;
    int64_t most_digests = 0;
  };
  static Places places_for(const StepLimits& limits);

  std::byte* at(size_t slot, int64_t place) const;
  size_t take_slot();
  void forget_up_to(uint64_t serial);
  uint64_t keep_bindings(std::span<const Binding> bindings, Digest digest);
  bool read_slot(size_t slot, uint64_t& serial, StepEntry& step, StepTime& time) const;
  void read_sets(Record& record) const;
  BindingEntry entry_of(const BindingSet& set, const Binding& binding) const;

  RecorderOptions options_;
  Places places_;
  mutable std::vector<Slot> slots_;
  mutable ZeroedArray<std::byte> memory_;  // [slots, slot_bytes]
  mutable std::vector<BindingSet> sets_;
  std::vector<Binding> bindings_;  // [binding_sets, max_bindings]
  RecordedTables tables_;          // before the oldest step
  mutable std::mutex readers_;     // one at a time
  uint64_t serial_ = 0;            // of the newest step
  size_t current_ = 0;             // its slot
  size_t before_ = 0;              // that of the step before
  uint64_t sets_seen_ = 0;
  size_t last_set_ = 0;
  int64_t born_ns_ = 0;
};

}  // namespace lockstep
