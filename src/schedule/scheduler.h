// Scheduler: asks the policy who runs, gives pages and states, and takes the outcome of a step back into the
// sequences. It never sees a device or a tensor.
#pragma once

#include <array>
#include <memory>
#include <span>
#include <vector>

#include "cache/page_pool.h"
#include "cache/slot_pool.h"
#include "plan/page_tables.h"
#include "plan/plan_builder.h"
#include "schedule/policy.h"
#include "schedule/sequence.h"

namespace lockstep {

struct SchedulerOptions {
  StepLimits limits;
  GroupId kv_group;         // the first of the groups whose pages are handed out: all paged ones
  GroupId state_group;      // whose states are handed out, when limits.num_groups says that it exists
  int32_t max_running = 0;  // sequences that may hold resources at once
  int32_t max_rows = 0;     // rows of one step
  int32_t chunk_size = 0;   // rows of a prompt chunk
  std::vector<int32_t>
      decode_buckets;  // ascending; a pure decode step is padded to the next one. Empty: never
};

// What runs in one step.
struct Batch {
  std::vector<SequenceStep> steps;   // in the order of `sequences`
  std::vector<Sequence*> sequences;  // borrowed; null: removed since
  int32_t rows = 0;                  // unpadded, of the rank that has most
  bool decode = true;                // one row of each sequence, each with logits; so is an empty batch
  Bucket bucket;                     // where no other replica has a say
  Epoch source_epoch;
  bool empty() const { return sequences.empty(); }
};

// Thread: one owner, the engine's.
class Scheduler {
 public:
  explicit Scheduler(const SchedulerOptions& options);

  // Queues a sequence, which must outlive its time here. Errors: kInvalidArgument when `longest` tokens could
  // never be cached, whatever else runs.
  Status add(Sequence& sequence, int32_t longest);
  // Gives back what a sequence holds and forgets it. A step that it takes part in may be under way: nobody
  // gets its pages before that has ended, and all else is given to others in the order of steps.
  void remove(Sequence& sequence);

  // The batch of step `epoch`; empty when there is nothing to do. Borrowed until the next call but one.
  // Precondition: no step is under way.
  const Batch& next(Epoch epoch) { return *plan(epoch, true); }
  // The same while the step before `epoch` is under way, after begun(). Null when pages would have to be
  // taken from somebody who runs, as that step still uses them: nothing has changed then.
  const Batch* next_ahead(Epoch epoch) { return plan(epoch, false); }
  // The bucket of a batch in a step of `rows` rows, unpadded: those of the batch, or of the replica that has
  // most where replicas meet. A decode step takes the next decode bucket, so that few shapes occur; else pad
  // sequences of up to a page fill the rows up.
  Bucket bucket_for(const Batch& batch, int32_t rows, bool decode) const;
  // The step of the batch will run: its sequences are as after it, but for the tokens that it draws.
  void begun(const Batch& batch, Epoch step);
  // Takes the drawn tokens into their places. The step has ended.
  void ended(const Batch& batch, const StepResult& result);
  // Both, of a step that nobody plans ahead of.
  void commit(const Batch& batch, const StepResult& result) {
    begun(batch, result.epoch);
    ended(batch, result);
  }
  // The step has ended, with or without a result: what only it used is free.
  void step_ended(Epoch step);

  // Of a paged group; null for a group of states.
  PageTables* page_tables(GroupId group);
  size_t waiting_or_running() const { return sequences_.size(); }
  int64_t preemptions() const { return preemptions_; }
  // Of the group whose pages hold the keys.
  PageCount pages_used() const { return caches_[0].pages.capacity() - caches_[0].pages.available(); }
  PageCount pages_total() const { return caches_[0].pages.capacity(); }
  // Everything is free again: holds whenever no sequence is here.
  bool idle() const { return check_idle().ok(); }
  // ok when idle. Errors: kInternal, naming what is not free.
  Status check_idle() const;

 private:
  // The pages of a paged group. Pages of all groups hold as many tokens, so a sequence has as many of each.
  struct PagedCache {
    GroupId group;
    PagePool pages;
    PageTables tables;
  };
  static std::vector<PagedCache> caches_of(const SchedulerOptions& options);
  const Batch* plan(Epoch epoch, bool may_preempt);
  Decision decide_now() const;
  PageCount free_pages() const;
  bool has_states() const { return options_.state_group.get() < options_.limits.num_groups; }
  void start(Sequence& sequence);
  void release(Sequence& sequence);
  void extend(Sequence& sequence, int32_t tokens);
  SequenceStep step_of(const Sequence& sequence, int32_t rows, Epoch epoch) const;

  SchedulerOptions options_;
  std::vector<PagedCache> caches_;  // kv_group first
  TableRowPool rows_;
  StatePool states_;
  PenaltySlotPool penalties_;
  std::vector<Sequence*> sequences_;  // in order of arrival
  std::array<Batch, 2> batches_;      // in turn
  size_t newest_ = 0;
  Epoch ended_;  // the newest step that has
  int64_t preemptions_ = 0;
};

}  // namespace lockstep
