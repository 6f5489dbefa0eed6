// A replay that another thread holds to its capture while the caller does something else.
#include "runtime/step_runner.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "base/fault.h"
#include "kernels/table.h"
#include "plan/validate/simulation.h"

namespace lockstep {
namespace {

struct ReadArgs {
  TensorView in;
};
constexpr OpArg kReadArgs[] = {{LS_ARG(ReadArgs, in), .access = Access::kRead, .dims = "T"}};
constexpr OpSpec kRead{.name = "read", .args = kReadArgs, .args_bytes = sizeof(ReadArgs)};
void read(const ReadArgs&, Worker) {}

constexpr const OpSpec* kOps[] = {&kRead};
constexpr FieldUse kUses[] = {{.field = FieldId::positions, .argument = "read.in"}};
constexpr ConsumerSpec kReader{.name = "reader", .ops = kOps, .fields = kUses};

// Says who asked it to prepare, and how often. `secret` enters what it prepares and is declared nowhere; one
// that `declines` prepares nothing.
class Reader final : public StepProgram {
 public:
  Status prepare(const Binder& binder, PreparedStep& step) const override {
    ++times;
    by = std::this_thread::get_id();
    if (declines) return error(Code::kInternal, "reader: declined, as told");
    auto& launch = step.add<Launch>(kReader);
    launch.in = LS_TRY(binder.address(kReader, FieldId::positions));
    launch.secret = secret;
    return {};
  }
  Status enqueue(const PreparedStep& step, const Launcher& on) const override {
    launch(on.stream, kRead, "read", read, ReadArgs{LS_TRY(step.get<Launch>(kReader))->in}, Parts::kOne);
    return {};
  }

  mutable std::atomic<int> times = 0;
  mutable std::thread::id by;
  int64_t secret = 0;
  bool declines = false;

 private:
  struct Launch {
    TensorView in;
    int64_t secret = 0;
  };
};

// A captured plan, and another one that replays it.
class HoldBeside : public ::testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    map_.add(arena_);
    runner_ =
        std::move(StepRunner::create({.limits = simulation_.limits(), .derived = {}}, stream_, map_, arena_))
            .value();
    ASSERT_EQ(simulation_.next(plan_).message(), "");
    ASSERT_EQ(runner_->capture(plan_, program_, on_).message(), "");
  }
  Status run() { return runner_->run(plan_, program_, on_); }
  Status run_held() {
    program_.times = 0;
    const StepRunner::Beside beside = runner_->hold_beside(plan_, program_);
    return run();
  }
  bool two() const { return stream_.threads() == 2; }

  Simulation simulation_{7};
  Arena arena_ = Arena::create("runner", int64_t{8} << 20).value();
  MemoryMap map_;
  Stream stream_{GetParam()};
  std::unique_ptr<StepRunner> runner_;
  Reader program_;
  const Launcher on_{kernel_table(Isa::kReference), stream_};
  StepPlan plan_;
};

TEST_P(HoldBeside, PreparesOnceAndOnAnotherThreadWhereThereIsOne) {
  ASSERT_EQ(run_held().message(), "");
  EXPECT_EQ(program_.by != std::this_thread::get_id(), two());
  EXPECT_EQ(runner_->finish(plan_).message(), "");
  EXPECT_TRUE(runner_->last().replayed);
  EXPECT_EQ(program_.times, 1);

  ASSERT_EQ(run().message(), "");  // what was held counts once
  EXPECT_EQ(program_.times, 2);
}

TEST_P(HoldBeside, EndsWithItsScopeAndOnlyCountsForItsPlan) {
  program_.times = 0;
  { const StepRunner::Beside beside = runner_->hold_beside(plan_, program_); }
  EXPECT_EQ(program_.times, two() ? 1 : 0);
  ASSERT_EQ(run().message(), "");  // the scope that held it is over
  EXPECT_EQ(program_.times, two() ? 2 : 1);
  EXPECT_EQ(runner_->finish(plan_).message(), "");

  const StepPlan same = plan_;
  const StepRunner::Beside beside = runner_->hold_beside(same, program_);
  program_.times = 0;
  ASSERT_EQ(run().message(), "");
  EXPECT_EQ(program_.by, std::this_thread::get_id());
}

TEST_P(HoldBeside, LeavesWhatIsNotAsCapturedToBeNamed) {
  program_.secret = 897;
  const Status status = run_held();
  ASSERT_NE(status.fault(), nullptr) << status.message();
  EXPECT_EQ(status.fault()->check, "R2");
  EXPECT_EQ(status.fault()->consumer, "reader");
}

// The recorder is told of the capture's bindings before the other thread has found that they are the step's.
TEST_P(HoldBeside, RecordsNoBindingsOfAStepThatHasNone) {
  RecorderOptions options;
  options.rank.limits = simulation_.limits();
  FlightRecorder recorder(options);
  runner_->set_recorder(&recorder);
  recorder.begin({.plan = plan_, .sequence_ids = {}});
  ASSERT_EQ(run_held().message(), "");
  EXPECT_EQ(runner_->finish(plan_).message(), "");
  program_.declines = true;
  recorder.begin({.plan = plan_, .sequence_ids = {}});
  EXPECT_EQ(run_held().message(), "reader: declined, as told");

  const Record record = recorder.snapshot();
  ASSERT_EQ(record.steps.size(), 2u);
  EXPECT_NE(record.steps[0].binding_set, 0u);
  EXPECT_EQ(record.steps[1].binding_set, 0u);
  EXPECT_FALSE(record.bindings.empty());
}

TEST_P(HoldBeside, LeavesTheOtherThreadAloneWhereNothingIsReplayedUnderChecks) {
  runner_->set_level(GuardLevel::kPlan);
  ASSERT_EQ(run_held().message(), "");
  EXPECT_EQ(program_.times, 0);
  runner_->set_level(GuardLevel::kReplay);
  runner_->set_eager("asked for");
  ASSERT_EQ(run_held().message(), "");
  EXPECT_EQ(program_.by, std::this_thread::get_id());
}

INSTANTIATE_TEST_SUITE_P(Threads, HoldBeside, ::testing::Values(1, 2));

}  // namespace
}  // namespace lockstep
