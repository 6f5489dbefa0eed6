// False alarms: random valid plans go through builder, validation, binding, capture, replay checks and the
// device's report with kernels that do nothing, and through the storyteller; nobody may be accused.
// LOCKSTEP_LONG=1 runs a million plans and ten thousand steps.
#include <gtest/gtest.h>

#include <cstdlib>
#include <iostream>
#include <random>
#include <set>

#include "../support/engines.h"
#include "kernels/kv_cache/kv_cache.h"
#include "kernels/table.h"
#include "plan/validate.h"
#include "plan/validate/simulation.h"
#include "runtime/step_runner.h"

namespace lockstep::testing {
namespace {

bool long_run() { return std::getenv("LOCKSTEP_LONG") != nullptr; }

// Reads one field and does nothing with it.
struct ReadArgs {
  TensorView in;
};
constexpr OpArg kReadArgs[] = {{LS_ARG(ReadArgs, in), .access = Access::kRead, .dims = "T"}};
constexpr OpSpec kRead{.name = "read", .args = kReadArgs, .args_bytes = sizeof(ReadArgs)};
void read(const ReadArgs&, Worker) {}

constexpr const OpSpec* kOps[] = {&kRead, &kTableEditsSpec};

// Every field by address; what is frozen also by value, and the longest sequence as a bound.
std::vector<FieldUse> uses() {
  std::vector<FieldUse> all;
  for (const FieldInfo& info : kFields) {
    const bool edits = info.id == FieldId::table_edits, count = info.id == FieldId::num_table_edits;
    all.push_back({.field = info.id,
                   .argument = edits   ? "table_edits.edits"
                               : count ? "table_edits.num_edits"
                                       : "read.in"});
    if (edits || count) all.push_back({.field = info.id, .argument = "read.in"});
    if (info.life == Life::kFrozen)
      all.push_back({.field = info.id, .feed = Feed::kValue, .argument = "read.in"});
  }
  all.push_back({.field = FieldId::table_edits, .argument = "table_edits.edits"});
  all.push_back({.field = FieldId::num_table_edits, .argument = "table_edits.num_edits"});
  return all;
}

class Reader final : public StepProgram {
 public:
  Reader(const StepLimits& limits, std::vector<DeviceTable> tables)
      : limits_(limits), tables_(std::move(tables)) {}

  Status prepare(const Binder& binder, PreparedStep& step) const override {
    auto& launch = step.add<Launch>(spec_);
    for (const FieldInfo& info : kFields) {
      for (int32_t g = 0; g < kMaxGroups; ++g) {
        if (!group_has_field(limits_, info, GroupId(g))) continue;
        const TensorView view = LS_TRY(binder.address(spec_, info.id, GroupId(g)));
        if (view.elements() > 0) launch.fields[static_cast<size_t>(launch.count++)] = view;
      }
    }
    for (size_t t = 0; t < tables_.size(); ++t) {
      launch.edits[t] = LS_TRY(binder.address(spec_, FieldId::table_edits, tables_[t].group));
      launch.num_edits[t] = LS_TRY(binder.scalar_address(spec_, field::num_table_edits, tables_[t].group));
    }
    launch.rows = LS_TRY(binder.value(spec_, field::num_rows_padded)).get();
    binder.decide(spec_, "wide", launch.rows > 16 ? 1 : 0);
    return {};
  }
  Status enqueue(const PreparedStep& step, const Launcher& on) const override {
    const Launch& launch = *LS_TRY(step.get<Launch>(spec_));
    for (size_t t = 0; t < tables_.size(); ++t) {
      LS_TRY(table_edits(
          on, {.edits = launch.edits[t], .page_table = tables_[t].pages, .num_edits = launch.num_edits[t]},
          "edits"));
    }
    for (int64_t i = 0; i < launch.count; ++i)
      lockstep::launch(on.stream, kRead, "read", read, ReadArgs{launch.fields[static_cast<size_t>(i)]},
                       Parts::kOne);
    return {};
  }

 private:
  struct Launch {
    std::array<TensorView, 100> fields;
    std::array<TensorView, kMaxGroups> edits;
    std::array<const int32_t*, kMaxGroups> num_edits{};
    int64_t count = 0;
    int64_t rows = 0;
  };
  StepLimits limits_;
  std::vector<DeviceTable> tables_;
  std::vector<FieldUse> uses_ = uses();
  ConsumerSpec spec_{.name = "reader", .ops = kOps, .fields = uses_};
};

// One life of a random engine. Returns how many plans were run; adds up captures and replays.
int64_t live(uint64_t seed, int64_t plans, int64_t& captures, int64_t& replays) {
  Simulation simulation(seed);
  const StepLimits& limits = simulation.limits();
  Arena arena = Arena::create("alarms", int64_t{8} << 20).value();
  MemoryMap map;
  map.add(arena);
  Stream stream(1, seed % 2 == 0 ? Pace::kAtOnce : Pace::kLate);
  auto runner = std::move(StepRunner::create({.limits = limits, .derived = {}}, stream, map, arena)).value();
  std::vector<DeviceTable> tables;
  for (int32_t g = 0; g < limits.num_groups; ++g) {
    const CacheGroup& group = limits.group(GroupId(g));
    if (group.kind != GroupKind::kPaged) continue;
    tables.push_back(
        {GroupId(g),
         arena.allocate("page table", DType::kI32, {group.table_rows, group.max_pages_per_seq}).value()});
  }
  runner->set_tables(tables);
  if (seed % 3 == 0) runner->set_level(GuardLevel::kFull);  // all tables are looked at
  const Reader program(limits, tables);
  PlanValidator validator(limits);
  const Launcher on{kernel_table(Isa::kReference), stream};
  StepPlan plan;
  for (int64_t i = 0; i < plans; ++i) {
    const Status built = simulation.next(plan);
    EXPECT_TRUE(built.ok()) << built.message();
    const Status valid = validator.validate(plan);
    EXPECT_TRUE(valid.ok()) << "seed " << seed << ", plan " << i << ": " << valid.message();
    if (!runner->has_graph(graph_key(plan)) && runner->graphs() < 64) {
      const Status captured = runner->capture(plan, program, on);
      EXPECT_TRUE(captured.ok()) << "seed " << seed << ", plan " << i << ": " << captured.message();
      ++captures;
    } else if (runner->has_graph(graph_key(plan)) && i % 7 == 0) {
      const Status again = runner->recapture(plan, program, on);
      EXPECT_TRUE(again.ok()) << "seed " << seed << ", plan " << i << ": " << again.message();
    }
    Status ran = runner->run(plan, program, on);
    if (ran.ok()) ran = runner->finish(plan);
    EXPECT_TRUE(ran.ok()) << "seed " << seed << ", plan " << i << ": " << ran.message();
    if (::testing::Test::HasFailure()) return i;
  }
  replays += runner->replays();
  return plans;
}

TEST(FalseAlarms, NoneInRandomValidPlans) {
  const int64_t wanted = long_run() ? 1'000'000 : 20'000;
  int64_t plans = 0, captures = 0, replays = 0;
  for (uint64_t seed = 1; plans < wanted && !HasFailure(); ++seed)
    plans += live(seed, std::min<int64_t>(wanted - plans, 400), captures, replays);
  std::cout << plans << " plans, " << captures << " captures, " << replays << " replays\n";
  EXPECT_GE(captures, long_run() ? 1000 : 100);
  EXPECT_GE(replays, plans / 50);
}

TEST(FalseAlarms, NoneWhileTheStorytellerServes) {
  EngineConfig config = small_config(concat(LOCKSTEP_SOURCE_DIR, "/models/storyteller"), ComputeDType::kAuto);
  config.max_num_seqs = 12;
  config.num_pages = 120;  // tight enough that sequences are preempted
  config.max_model_len = 400;
  config.graph_sizes = {1, 2, 3, 5, 8, 12};
  const auto engine = make_engine(config);
  ASSERT_NE(engine, nullptr);
  std::mt19937_64 random(7);
  const int64_t wanted = long_run() ? 10'000 : 200;
  for (int64_t steps = 0; steps < wanted; ++steps) {
    while (random() % 4 == 0 || !engine->has_work()) {
      Request request = greedy({}, static_cast<int32_t>(1 + random() % 120));
      for (uint64_t n = 1 + random() % 200; n > 0; --n)
        request.prompt_ids.push_back(
            static_cast<int32_t>(random() % static_cast<uint64_t>(engine->model().spec.vocab)));
      request.temperature = random() % 2 == 0 ? 0.0f : 0.8f;
      request.presence_penalty = random() % 3 == 0 ? 0.5f : 0.0f;
      ASSERT_TRUE(engine->add(request).ok());
      if (random() % 3 == 0) break;
    }
    for (const RequestOutput& output : engine->step()) ASSERT_EQ(output.error, "") << "step " << steps;
  }
  std::cout << wanted << " steps, " << engine->executor().runner().replays() << " replays, "
            << engine->stats().preemptions << " preemptions\n";
}

}  // namespace
}  // namespace lockstep::testing
