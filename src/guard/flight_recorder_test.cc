#include "guard/flight_recorder.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>
#include <thread>

#include "guard/record_index.h"
#include "plan/validate.h"
#include "plan/validate/simulation.h"

namespace lockstep {
namespace {

// Counts the allocations of this test program.
struct AllocationCounter {
  mutable std::atomic<int64_t> count = 0;
};
constinit const AllocationCounter kAllocations;

void* counted(size_t bytes) {
  ++kAllocations.count;
  void* memory = std::malloc(bytes > 0 ? bytes : 1);
  if (memory == nullptr) std::abort();
  return memory;
}

}  // namespace
}  // namespace lockstep

void* operator new(size_t bytes) { return lockstep::counted(bytes); }
void* operator new[](size_t bytes) { return lockstep::counted(bytes); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, size_t) noexcept { std::free(memory); }

namespace lockstep {
namespace {

constexpr FieldUse kUses[] = {{.field = FieldId::seq_lens, .argument = "attend.seq_lens"},
                              {.field = FieldId::table_edits, .argument = "attend.edits"}};
constexpr ConsumerSpec kConsumer{.name = "attend", .ops = {}, .fields = kUses};

RecorderOptions options_for(const StepLimits& limits, int32_t steps = 8) {
  RecorderOptions options{.steps = steps, .binding_sets = 4, .max_bindings = 8};
  options.rank.rank = 3;
  options.rank.limits = limits;
  options.image = {.arena = "activations", .allocation = "plan image", .generation = 5};
  return options;
}

std::vector<Binding> bindings_with(int64_t splits) {
  return {
      {.consumer = &kConsumer, .field = FieldId::seq_lens, .name = "seq_lens", .offset = 64, .elements = 4},
      {.consumer = &kConsumer,
       .field = FieldId::table_edits,
       .name = "table_edits",
       .offset = 128,
       .elements = 2},
      {.consumer = &kConsumer, .kind = Binding::Kind::kDecision, .name = "splits", .value = splits}};
}

// A random engine with a recorder.
struct Recorded {
  explicit Recorded(uint64_t seed, int32_t steps = 8)
      : simulation(seed), recorder(options_for(simulation.limits(), steps)) {}
  void step() {
    const Status built = simulation.next(plan);
    ASSERT_TRUE(built.ok()) << built.message();
    plan.freeze();
    recorder.begin({.plan = plan});
    recorder.prepared({.bindings = bindings});
    recorder.end({});
  }
  void steps(int count) {
    for (int i = 0; i < count; ++i) step();
  }
  Simulation simulation;
  FlightRecorder recorder;
  std::vector<Binding> bindings = bindings_with(1);
  StepPlan plan;
};

// What a validator that begins where the record does says of its plans; empty: all are valid.
std::string verdict_on(const Record& record) {
  const RankEntry& rank = record.ranks.front();
  PlanValidator validator(rank.limits);
  PlanValidator::Past past{.epoch = Epoch(rank.epoch_before),
                           .logits_rows = LiveRows(rank.logits_rows_before)};
  for (const TableEntry& table : rank.tables) {
    past.tables[static_cast<size_t>(table.group)] = {
        reinterpret_cast<const TableEdit*>(table.edits.bytes.data()),
        static_cast<size_t>(table.edits.shape[0])};
  }
  const Status resumed = validator.resume(past);
  if (!resumed.ok()) return resumed.message();
  for (const StepEntry& step : record.steps) {
    if (step.run == RunKind::kRefused) continue;
    const std::optional<StepPlan> plan = plan_of(record, step);
    if (!plan) return concat("step ", step.epoch, " has no plan");
    if (plan->digest() != step.plan_digest) return concat("step ", step.epoch, " has another digest");
    const Status valid = validator.validate(*plan);
    if (!valid.ok()) return valid.message();
  }
  return "";
}

TEST(FlightRecorder, KeepsTheLastStepsByteForByte) {
  Recorded engine(1);
  std::vector<StepPlan> plans;
  for (int i = 0; i < 30; ++i) {
    engine.step();
    plans.push_back(engine.plan);
  }

  const Record record = engine.recorder.snapshot();

  ASSERT_EQ(record.steps.size(), 9u);  // eight, and the one whose slot is there for a reader
  for (size_t i = 0; i < record.steps.size(); ++i) {
    const StepPlan& plan = plans[plans.size() - record.steps.size() + i];
    EXPECT_EQ(record.steps[i].rank, 3);
    EXPECT_EQ(record.steps[i].epoch, plan.scalar(field::epoch).get());
    EXPECT_EQ(record.steps[i].plan_digest, plan.digest());
    EXPECT_TRUE(std::ranges::equal(record.steps[i].plan.bytes, plan.image())) << "step " << i;
  }
  EXPECT_EQ(record.ranks.front().steps_before, 21u);
}

TEST(FlightRecorder, RecordsEnoughToHoldEveryPlanToEveryRule) {
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    SCOPED_TRACE(concat("seed ", seed));
    Recorded engine(seed);
    for (int round = 0; round < 10; ++round) {
      engine.steps(1 + static_cast<int>(seed) % 7);
      EXPECT_EQ(verdict_on(engine.recorder.snapshot()), "");
    }
  }
}

TEST(FlightRecorder, ARefusedPlanLeavesNoTraceInTheTables) {
  Recorded engine(2);
  engine.steps(3);
  StepPlan wrong = engine.plan;
  for (int32_t g = 0; g < engine.simulation.limits().num_groups; ++g) {
    const auto edits = wrong.edit(field::table_edits, GroupId(g));
    if (edits.empty()) continue;
    edits[0] = {.row = TableRow(1), .index = 0, .page = PageId(1)};
    wrong.edit(field::num_table_edits, GroupId(g))[0] = 1;
  }
  engine.recorder.begin({.plan = wrong, .refused = true});
  engine.steps(20);

  EXPECT_EQ(verdict_on(engine.recorder.snapshot()), "");
}

TEST(FlightRecorder, APlanBeyondTheLimitsIsRecordedWithoutItsImage) {
  Recorded engine(3);
  StepLimits wide = engine.simulation.limits();
  wide.max_rows *= 64;
  StepPlan plan;
  plan.reset(wide, {.rows = PaddedRows(wide.max_rows), .seqs = PaddedSeqs(1), .logits_rows = PaddedRows(1)});
  plan.edit(field::epoch)[0] = Epoch(1);
  engine.recorder.begin({.plan = plan, .refused = true});

  const Record record = engine.recorder.snapshot();

  ASSERT_EQ(record.steps.size(), 1u);
  EXPECT_TRUE(record.steps[0].plan.bytes.empty());
  EXPECT_EQ(record.steps[0].bucket, plan.bucket());
  EXPECT_EQ(record.steps[0].run, RunKind::kRefused);
}

TEST(FlightRecorder, TellsAStepThatIsUnderWayFromOneThatEnded) {
  Recorded engine(4);
  engine.step();
  ASSERT_TRUE(engine.simulation.next(engine.plan).ok());
  const std::vector<uint64_t> ids = {17};
  engine.recorder.begin({.plan = engine.plan, .sequence_ids = ids});
  const Record before = engine.recorder.snapshot();
  const std::string long_reason(500, 'x');
  engine.recorder.prepared({.run = RunKind::kReplayed, .reason = long_reason, .graph_key = 9});
  const Record during = engine.recorder.snapshot();
  const std::vector<Digest> head = {1, 2};
  const std::vector<TokenId> tokens = {TokenId(7)};
  const std::vector<int32_t> non_finite = {2};
  engine.recorder.end(
      {.head_epoch = 2, .head = head, .tail = 13, .tokens = tokens, .non_finite = non_finite});
  const Record after = engine.recorder.snapshot();

  ASSERT_EQ(before.steps.size(), 2u);
  EXPECT_FALSE(before.steps[1].ended);
  EXPECT_EQ(before.steps[1].run, RunKind::kEager);
  EXPECT_EQ(before.steps[1].sequence_ids, ids);
  EXPECT_EQ(during.steps[1].run, RunKind::kReplayed);
  EXPECT_EQ(during.steps[1].graph_key, 9u);
  EXPECT_EQ(during.steps[1].reason, std::string(120, 'x'));
  EXPECT_FALSE(during.steps[1].ended);
  EXPECT_TRUE(after.steps[1].ended);
  EXPECT_EQ(after.steps[1].head_epoch, 2u);
  EXPECT_EQ(after.steps[1].head, head);
  EXPECT_EQ(after.steps[1].tail, 13u);
  EXPECT_EQ(after.steps[1].tokens, std::vector<int32_t>{7});
  EXPECT_EQ(after.steps[1].non_finite, non_finite);
}

TEST(FlightRecorder, KeepsBindingsOncePerSet) {
  Recorded engine(5);
  engine.step();
  engine.bindings = bindings_with(2);
  engine.steps(2);
  engine.bindings = bindings_with(1);
  engine.step();

  const Record record = engine.recorder.snapshot();

  std::vector<uint64_t> sets;
  for (const StepEntry& step : record.steps) sets.push_back(step.binding_set);
  EXPECT_EQ(sets, (std::vector<uint64_t>{1, 2, 2, 1}));
  ASSERT_EQ(record.bindings.size(), 6u);
  const BindingEntry& lengths = record.bindings[0];
  EXPECT_EQ(lengths.consumer, "attend");
  EXPECT_EQ(lengths.field, "seq_lens");
  EXPECT_EQ(lengths.arena, "activations");
  EXPECT_EQ(lengths.allocation, "plan image");
  EXPECT_EQ(lengths.offset, 64);
  EXPECT_EQ(lengths.generation, 5u);
  EXPECT_EQ(lengths.shape, std::vector<int64_t>{4});
  EXPECT_EQ(record.bindings[1].shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(record.bindings[1].strides, (std::vector<int64_t>{3, 1}));
  EXPECT_EQ(record.bindings[5].feed, "decision");
  EXPECT_EQ(record.bindings[5].value, 2);
  EXPECT_EQ(record.bindings[5].epoch, record.steps[1].epoch);
}

TEST(FlightRecorder, ForgetsTheSetThatWasUsedLeastRecently) {
  Recorded engine(6);
  for (int64_t splits = 1; splits <= 6; ++splits) {
    engine.bindings = bindings_with(splits);
    engine.step();
  }

  const Record record = engine.recorder.snapshot();

  EXPECT_EQ(record.bindings.size(), 12u);  // four sets of three
  EXPECT_EQ(record.bindings.front().set, 3u);
  EXPECT_EQ(record.steps.front().binding_set, 1u);  // its bindings are gone, and nobody else's stand there
}

TEST(FlightRecorder, AllocatesNothing) {
  Recorded engine(8);
  engine.step();
  const int64_t before = kAllocations.count;
  for (int i = 0; i < 100; ++i) {
    engine.recorder.begin({.plan = engine.plan});
    engine.recorder.prepared({.reason = "no graph for 3 rows", .bindings = engine.bindings});
    engine.recorder.end({});
  }
  const int64_t after = kAllocations.count;
  const std::vector<int> one(1);

  EXPECT_EQ(after - before, 0);
  EXPECT_EQ(kAllocations.count - after, 1) << "the counter counts";
}

// Two runs of the same work leave the same text, but for times.
TEST(FlightRecorder, TwoRunsGiveTheSameRecordButForTimes) {
  std::string first;
  for (int run = 0; run < 2; ++run) {
    Recorded engine(9);
    engine.steps(20);
    Record record = engine.recorder.snapshot();
    record.times.clear();
    const std::string index = take_apart(record).index;
    if (run == 0) first = index;
    EXPECT_EQ(index, first);
  }
}

TEST(FlightRecorder, ManyReadersSeeWholeStepsWhileTheWriterGoesOn) {
  Recorded engine(10, 4);
  engine.steps(10);
  std::atomic<bool> stop = false;
  std::atomic<int> read = 0;
  std::vector<std::string> verdicts(2);
  std::vector<std::thread> readers;
  for (std::string& verdict : verdicts) {
    readers.emplace_back([&] {
      while (!stop && verdict.empty()) {
        const Record record = engine.recorder.snapshot();
        if (record.ranks.front().tables_known) verdict = verdict_on(record);
        ++read;
      }
    });
  }
  for (int i = 0; i < 3000 || read < 20; ++i) engine.step();
  stop = true;
  for (std::thread& reader : readers) reader.join();

  for (const std::string& verdict : verdicts) EXPECT_EQ(verdict, "");
}

}  // namespace
}  // namespace lockstep
