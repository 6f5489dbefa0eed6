// Record: what a fault leaves behind, as plain structs that the recorder fills, the file keeps and `lockstep
// explain` reads. Each struct lists its members once, in members(); writer and reader both walk that list.
// Every entry names its rank, so that the records of several ranks merge by appending.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/digest.h"
#include "base/fault.h"
#include "guard/record_kinds.h"
#include "plan/step_plan.h"

namespace lockstep {

inline constexpr int32_t kRecordVersion = 2;

// One step of one rank.
struct StepEntry {
  int32_t rank = 0;
  uint64_t epoch = 0;
  Bucket bucket;
  RunKind run = RunKind::kEager;
  std::string reason;                  // why it was not replayed; empty: it was, or nobody said
  Digest graph_key = 0;                // 0: no graph
  Digest plan_digest = 0;              // as the plan was frozen
  uint64_t binding_set = 0;            // BindingEntry::set; 0: not recorded
  bool ended = false;                  // false: the fault came while it ran
  uint64_t head_epoch = 0;             // as the device saw it; 0: no report
  RecordTensor plan;                   // [bytes] u8: the image
  std::vector<uint64_t> sequence_ids;  // of the live sequences, in the plan's order
  std::vector<Digest> head;            // of each field as the device read it before the first launch
  Digest tail = 0;                     // of the whole image after the last one; 0: no report
  std::vector<int32_t> tokens;         // of the live logits rows; -1: not finite
  std::vector<int32_t> non_finite;     // logits of each of them

  std::string key() const { return concat(epoch, "/rank", rank); }
  static void members(auto& self, auto&& each) {
    each("rank", self.rank);
    each("epoch", self.epoch);
    each("bucket", self.bucket);
    each("run", self.run);
    each("reason", self.reason);
    each.digest("graph_key", self.graph_key);
    each.digest("plan_digest", self.plan_digest);
    each("binding_set", self.binding_set);
    each("ended", self.ended);
    each("head_epoch", self.head_epoch);
    each("plan", self.plan);
    each("sequence_ids", self.sequence_ids);
    each.digest("head", self.head);
    each.digest("tail", self.tail);
    each("tokens", self.tokens);
    each("non_finite", self.non_finite);
  }
};

// Times of a step: the only part of a record that differs between two runs of the same work.
struct StepTime {
  int32_t rank = 0;
  uint64_t epoch = 0;
  int64_t began_ns = 0;  // since the recorder was made
  int64_t took_ns = 0;

  static void members(auto& self, auto&& each) {
    each("rank", self.rank);
    each("epoch", self.epoch);
    each("began_ns", self.began_ns);
    each("took_ns", self.took_ns);
  }
};

// What a consumer was handed, or decided, while a step was prepared.
struct BindingEntry {
  int32_t rank = 0;
  uint64_t set = 0;  // the steps that were prepared so name it
  std::string consumer;
  std::string field;  // of the plan, derived field or decision
  int32_t group = 0;
  std::string feed;   // "address", "value", "derived", "decision"
  std::string arena;  // with allocation, offset and generation: where; empty for values and decisions
  std::string allocation;
  int64_t offset = 0;  // bytes from the beginning of the allocation
  uint64_t generation = 0;
  std::vector<int64_t> shape;
  std::vector<int64_t> strides;  // in elements
  int64_t value = 0;             // of a decision
  uint64_t epoch = 0;            // the first recorded step that was prepared so

  static void members(auto& self, auto&& each) {
    each("rank", self.rank);
    each("set", self.set);
    each("consumer", self.consumer);
    each("field", self.field);
    each("group", self.group);
    each("feed", self.feed);
    each("arena", self.arena);
    each("allocation", self.allocation);
    each("offset", self.offset);
    each("generation", self.generation);
    each("shape", self.shape);
    each("strides", self.strides);
    each("value", self.value);
    each("epoch", self.epoch);
  }
};

// One collective that a rank entered. Members of a group enter its collectives in the same order, so group
// and number say which one it is, on every rank.
struct LedgerEntry {
  int32_t rank = 0;
  uint64_t sequence = 0;  // counted by each rank alone
  uint64_t epoch = 0;
  std::string op;
  std::string group;
  uint64_t number = 0;  // within the group, from 1; 0: not known
  std::string dtype;
  int64_t count = 0;
  std::string where;      // in the step: "layer 3 moe_sum"; empty: not said
  bool finished = false;  // false: the rank was still in it
  uint64_t order = 0;     // in the order of all ranks, see guard/record_merge.h; 0: not merged

  static void members(auto& self, auto&& each) {
    each("rank", self.rank);
    each("sequence", self.sequence);
    each("epoch", self.epoch);
    each("op", self.op);
    each("group", self.group);
    each("number", self.number);
    each("dtype", self.dtype);
    each("count", self.count);
    each("where", self.where);
    each("finished", self.finished);
    each("order", self.order);
  }
};

// The broken rule in its parts (base/fault.h), and the sentence. Its rank is whose fault it is: where a rule
// broke, or, between ranks (G1), who said something else than most.
struct FaultEntry {
  Fault fault;
  std::string message;
  int32_t on_rank = 0;  // whose record this is
  bool told = false;    // the rank heard it from another one: nothing was wrong on it as far as it knows

  static void members(auto& self, auto&& each) {
    each("rank", self.fault.rank);
    each("step", self.fault.step);
    each("check", self.fault.check);
    each("moment", self.fault.moment);
    each("consumer", self.fault.consumer);
    each("field", self.fault.field);
    each("row", self.fault.row);
    each("expected", self.fault.expected);
    each("found", self.fault.found);
    each("message", self.message);
    each("on_rank", self.on_rank);
    each("told", self.told);
  }
};

// What a probe counted at one launch, all outputs together. With `bad` false it says: looked, nothing found.
struct LaunchEntry {
  LaunchPlace at;
  Seen source = Seen::kSeen;
  bool bad = false;

  static void members(auto& self, auto&& each) {
    LaunchPlace::members(self.at, each);
    each("source", self.source);
    each("bad", self.bad);
  }
};

inline constexpr int kFindingRows = 16;

// Numbers that are not finite, in one argument of one launch, of rows with one kind of owner.
struct Finding {
  LaunchPlace at;
  Seen source = Seen::kSeen;
  std::string argument;  // of the op
  Side side = Side::kOutput;
  Owner owner = Owner::kLive;
  std::vector<uint64_t> sequences;  // of live rows
  std::vector<int32_t> rows;        // the first kFindingRows that are affected
  int64_t row_count = 0;            // all that are
  int64_t nan = 0;
  int64_t inf = 0;
  int64_t elements = 0;  // looked at, of rows of this owner
  double max_abs = 0;    // of those that are finite

  static void members(auto& self, auto&& each) {
    LaunchPlace::members(self.at, each);
    each("source", self.source);
    each("argument", self.argument);
    each("side", self.side);
    each("owner", self.owner);
    each("sequences", self.sequences);
    each("rows", self.rows);
    each("row_count", self.row_count);
    each("nan", self.nan);
    each("inf", self.inf);
    each("elements", self.elements);
    each("max_abs", self.max_abs);
  }
};

// The state of one input of the first bad launch.
struct InputState {
  std::string argument;
  Verdict clean = Verdict::kNotRecorded;
  int64_t nan = 0;
  int64_t inf = 0;
  double max_abs = 0;

  static void members(auto& self, auto&& each) {
    each("argument", self.argument);
    each("clean", self.clean);
    each("nan", self.nan);
    each("inf", self.inf);
    each("max_abs", self.max_abs);
  }
};

struct CapturedTensor {
  std::string name;  // "layer_input", "state/1", "page/17"
  RecordTensor values;

  const std::string& key() const { return name; }
  static void members(auto& self, auto&& each) {
    each("name", self.name);
    each("values", self.values);
  }
};

// The first launch of a rank whose outputs are bad, and everything needed to run it again.
struct FirstBadLaunch {
  LaunchPlace at;
  Seen source = Seen::kSeen;
  std::vector<InputState> inputs;
  Digest weights_digest = 0;  // of the layer; 0: not recorded
  std::string weights_path;   // of the checkpoint
  std::vector<CapturedTensor> captured;

  std::string key() const { return concat("rank", at.rank); }
  static void members(auto& self, auto&& each) {
    LaunchPlace::members(self.at, each);
    each("source", self.source);
    each("inputs", self.inputs);
    each.digest("weights_digest", self.weights_digest);
    each("weights_path", self.weights_path);
    each("captured", self.captured);
  }
};

// What the run after the fault found: the same plan and tokens, in scratch pages, under the level `full`.
struct RerunEntry {
  int32_t rank = 0;
  uint64_t step = 0;
  Verdict reproduced = Verdict::kNotRecorded;
  Verdict oracle_agrees = Verdict::kNotRecorded;  // the reference kernels, on the same inputs
  double oracle_difference = 0;                   // the largest, absolute
  Verdict f32_agrees = Verdict::kNotRecorded;     // the same kernels with f32 inputs
  double f32_difference = 0;
  Verdict cache_clean = Verdict::kNotRecorded;  // pages of the sequences before the step
  Verdict state_clean = Verdict::kNotRecorded;  // their recurrent states
  std::vector<std::string> notes;               // sentences

  static void members(auto& self, auto&& each) {
    each("rank", self.rank);
    each("step", self.step);
    each("reproduced", self.reproduced);
    each("oracle_agrees", self.oracle_agrees);
    each("oracle_difference", self.oracle_difference);
    each("f32_agrees", self.f32_agrees);
    each("f32_difference", self.f32_difference);
    each("cache_clean", self.cache_clean);
    each("state_clean", self.state_clean);
    each("notes", self.notes);
  }
};

// A page table as it stood before the first recorded step.
struct TableEntry {
  int32_t group = 0;
  RecordTensor edits;  // [entries, 3] i32: table row, index, page, in that order

  std::string key() const { return concat("group", group); }
  static void members(auto& self, auto&& each) {
    each("group", self.group);
    each("edits", self.edits);
  }
};

// A group of ranks that meet in collectives.
struct GroupEntry {
  std::string name;            // as the ledger has it
  std::vector<int32_t> ranks;  // its members, in their order in the group

  static void members(auto& self, auto&& each) {
    each("name", self.name);
    each("ranks", self.ranks);
  }
};

// What is true of a rank for the life of its engine, and where its recorded steps begin.
struct RankEntry {
  int32_t rank = 0;
  std::string place;  // "dp 0 of 2, tp 0 of 2"
  std::string model;
  std::string device;
  std::string guard;  // level: "plan", "replay", "full"
  StepLimits limits;
  std::vector<LayerKind> mixers;   // per layer
  std::vector<GroupEntry> groups;  // that it belongs to; empty: it is alone
  uint64_t steps_before = 0;       // recorded and forgotten since
  uint64_t epoch_before = 0;       // of the last plan before the first recorded one
  int32_t logits_rows_before = 0;  // its live ones
  bool tables_known = true;        // false: `tables` are not to be trusted
  std::vector<TableEntry> tables;

  std::string key() const { return concat("rank", rank); }
  static void members(auto& self, auto&& each) {
    each("rank", self.rank);
    each("place", self.place);
    each("model", self.model);
    each("device", self.device);
    each("guard", self.guard);
    each("limits", self.limits);
    each("mixers", self.mixers);
    each("groups", self.groups);
    each("steps_before", self.steps_before);
    each("epoch_before", self.epoch_before);
    each("logits_rows_before", self.logits_rows_before);
    each("tables_known", self.tables_known);
    each("tables", self.tables);
  }
};

struct Record {
  int32_t version = kRecordVersion;
  std::vector<RankEntry> ranks;  // ascending
  std::vector<StepEntry> steps;  // by epoch, then rank
  std::vector<BindingEntry> bindings;
  std::vector<LedgerEntry> ledger;    // by order, then rank
  std::vector<FaultEntry> faults;     // a cause before those who were told; empty: recorded on request
  std::vector<LaunchEntry> launches;  // that probes looked at
  std::vector<Finding> findings;
  std::vector<FirstBadLaunch> first_bad_launch;  // one per rank at most
  std::vector<RerunEntry> rerun;                 // one per rank at most
  std::vector<StepTime> times;

  static void members(auto& self, auto&& each) {
    each("version", self.version);
    each("ranks", self.ranks);
    each("steps", self.steps);
    each("bindings", self.bindings);
    each("ledger", self.ledger);
    each("fault", self.faults);
    each("launches", self.launches);
    each("findings", self.findings);
    each("first_bad_launch", self.first_bad_launch);
    each("rerun", self.rerun);
    each("times", self.times);
  }
};

// The plan of a recorded step, laid out as it was and frozen. Nothing when the step has no plan, its rank no
// limits, or the image another size than limits and bucket give it.
std::optional<StepPlan> plan_of(const Record& record, const StepEntry& step);

const RankEntry* rank_entry(const Record& record, int32_t rank);  // null: no such rank
// The members of a rank's group of that name; empty: not known.
std::span<const int32_t> members_of_group(const Record& record, int32_t rank, std::string_view group);

}  // namespace lockstep
