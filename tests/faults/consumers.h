// What the entries about consumers, graphs and staging begin with: a small engine without a model, an op that
// sums up what a sequence has, and a consumer that does it right. An entry then writes the consumer, or the
// executor, the way that went wrong in the field.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "conformance/host_kernels.h"
#include "conformance/planner.h"
#include "contract/replay_check.h"
#include "device/staging.h"
#include "faults/entry.h"
#include "kernels/common/launcher.h"
#include "runtime/step_runner.h"

namespace lockstep::faults {

using conformance::Share;

inline constexpr GroupId kPages(0);
inline constexpr int32_t kPage = 128;      // tokens of a page
inline constexpr int32_t kSeqs = 4;        // sequences of every step, pads included
inline constexpr int32_t kTokens = 1536;   // of one sequence, at most
inline constexpr int32_t kTables = 9;      // rows of the page table, and of the values that are summed
inline constexpr int64_t kUnwritten = -1;  // what outputs hold before a step

// out[s] is the sum of the first min(lens[s], longest, N) values of row rows[s]; 0 for pads.
struct SumArgs {
  TensorView values;  // [R, N] i32
  TensorView lens;    // [S] i32
  TensorView rows;    // [S] i32
  TensorView out;     // [S] i64
  const LiveSeqs* num_seqs = nullptr;
  int64_t longest = 0;
};
inline constexpr OpArg kSumArgs[] = {{LS_ARG(SumArgs, values), .dims = "RN", .any_stride = true},
                                     {LS_ARG(SumArgs, lens), .dims = "S"},
                                     {LS_ARG(SumArgs, rows), .dims = "S"},
                                     {LS_ARG(SumArgs, out), .access = Access::kWrite, .dims = "S"},
                                     {LS_ARG(SumArgs, num_seqs)},
                                     {LS_ARG(SumArgs, longest)}};
inline constexpr OpSpec kSum{.name = "sum_values", .args = kSumArgs, .args_bytes = sizeof(SumArgs)};
void sum_values(const SumArgs& args, Worker worker);

inline constexpr const OpSpec* kSumOps[] = {&kSum};
inline constexpr FieldUse kSumUses[] = {
    {.field = FieldId::seq_lens, .argument = "sum_values.lens"},
    {.field = FieldId::table_rows, .argument = "sum_values.rows"},
    {.field = FieldId::num_seqs, .argument = "sum_values.num_seqs"},
};
// A consumer that reads lengths, rows and the live count by address.
constexpr ConsumerSpec sums_named(std::string_view name) {
  return {.name = name, .ops = kSumOps, .fields = kSumUses};
}

struct WorkbenchOptions {
  Pace pace = Pace::kAtOnce;
  std::vector<const DerivedSpec*> derived{};
};

// Thread: one owner.
class Workbench {
 public:
  ~Workbench();
  static Result<std::unique_ptr<Workbench>> create(const Where& where, const WorkbenchOptions& options = {});

  // A new sequence that has so many tokens.
  Result<int32_t> begin(int32_t tokens);
  // The next step, in a bucket of kSeqs sequences: one row of each, or any rows.
  Result<StepPlan> decode(std::span<const int32_t> sequences);
  Result<StepPlan> decode(std::initializer_list<int32_t> sequences) {
    return decode(std::span(sequences.begin(), sequences.size()));
  }
  Result<StepPlan> step(std::initializer_list<Share> shares, int32_t padded_rows);

  // Records the program; behind everything allocated so far comes a decoy, full of poison.
  Status capture(const StepPlan& plan, const StepProgram& program);
  // Runs the step, by its graph if there is one, and holds the sums to what they must be.
  // Errors: as StepRunner; kInternal without a fault where a sum is wrong, although nobody noticed.
  Status run(const StepPlan& plan, const StepProgram& program);
  // The same without a look at the sums.
  Status run_only(const StepPlan& plan, const StepProgram& program);

  Status check(std::span<const int64_t> want);  // what the sums are
  Status check_sums(const StepPlan& plan);
  void forget_sums();

  TensorView numbers(std::string_view what, std::initializer_list<int32_t> values);
  Status upload(const TensorView& target, const void* bytes);  // in the order of the stream
  // At once; on a device behind everything so far.
  Status put(const TensorView& target, const void* bytes);
  // The same behind the stream's back, whatever it has still to do.
  Status poke(const TensorView& target, const void* bytes);
  Status copy(const TensorView& source, const TensorView& target);
  Status spoil(const TensorView& target);  // i32: what others wrote there
  // A field of one i32 per sequence.
  Status put_field(const TensorView& target, const StepPlan& plan, FieldId id);
  // An element of dense memory of T, likewise.
  template <typename T>
  T look(const TensorView& view, int64_t at) {
    T value{};
    HostView(stream_).read(view.as<T>() + at, &value, sizeof(T));
    return value;
  }
  // Launches a function of the host, wherever the bench is.
  template <typename Args>
  void launch(const Launcher& on, const LaunchSite& site, Kernel<Args> kernel, const Args& args) {
    conformance::launch_on_host(host_.get(), on.stream, site, kernel, args);
  }

  const TensorView& values() const { return values_; }  // [kTables, kTokens] i32
  const TensorView& sums() const { return sums_; }      // [kSeqs] i64
  const StepLimits& limits() const { return limits_; }
  Launcher launcher() { return {table_, stream_}; }
  StepRunner& runner() { return *runner_; }
  Stream& stream() { return stream_; }
  Device* device() { return stream_.device(); }  // null: the CPU
  Arena& arena() { return arena_; }
  const MemoryMap& map() const { return map_; }
  StagingRing& staging() { return staging_; }

 private:
  struct Parts {
    Arena arena;
    std::unique_ptr<DeviceQueue> queue;
    std::unique_ptr<conformance::HostKernels> host;
  };
  Workbench(const Where& where, const WorkbenchOptions& options, const StepLimits& limits, Parts parts);

  StepLimits limits_;
  Arena arena_;
  std::unique_ptr<conformance::HostKernels> host_;
  const KernelTable& table_;
  Stream stream_;
  MemoryMap map_;
  StagingRing staging_;
  conformance::Planner planner_;
  std::unique_ptr<StepRunner> runner_;
  TensorView values_;
  TensorView sums_;
};

// A program of one consumer with one launch of Args.
template <typename Args>
class Consumer : public StepProgram {
 public:
  Consumer(Workbench& bench, const ConsumerSpec& spec) : bench_(bench), spec_(spec) {}
  Status prepare(const Binder& binder, PreparedStep& step) const override {
    return bind(binder, step.add<Args>(spec_));
  }
  Status enqueue(const PreparedStep& step, const Launcher& on) const override {
    const Args& args = *LS_TRY(step.get<Args>(spec_));
    return run(args, on);
  }

 protected:
  virtual Status bind(const Binder& binder, Args& args) const = 0;
  virtual Status run(const Args& args, const Launcher& on) const = 0;

  Workbench& bench_;
  const ConsumerSpec& spec_;
};

// Sums, done right.
class Sums : public Consumer<SumArgs> {
 public:
  using Consumer<SumArgs>::Consumer;

 protected:
  Status bind(const Binder& binder, SumArgs& args) const override;
  Status run(const SumArgs& args, const Launcher& on) const override;
};

// The parts of StepRunner, for executors that the field has put together by hand. Each does one thing;
// forgetting one is the entry's business.
class HandMade {
 public:
  ~HandMade();
  static Result<std::unique_ptr<HandMade>> create(Workbench& bench);

  Status prepare(const StepPlan& plan, const StepProgram& program, const DeviceImage& image);
  Status capture(const StepPlan& plan, const StepProgram& program);
  Status hold_to_capture(const StepPlan& plan, const StepProgram& program);
  Status refresh(const StepPlan& plan) { return image_.refresh(plan, bench_.stream(), staging_); }
  // The head of the report, the replay, its tail, and the way back of what the device said.
  Status replay(const StepPlan& plan);
  Status check(const StepPlan& plan);  // holds the report to the plan

  DeviceImage& image() { return image_; }
  StagingRing& staging() { return staging_; }

 private:
  HandMade(Workbench& bench, DeviceImage image, StepReport report);
  Status record(const StepProgram& program, Graph& graph);

  Workbench& bench_;
  DeviceImage image_;
  StepReport report_;
  StagingRing staging_;
  PreparedStep prepared_;
  BindingLog bindings_;
  Graph graph_;
  CapturedStep captured_;
};

}  // namespace lockstep::faults
