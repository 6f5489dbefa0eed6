// StepRunner: takes one validated plan to the device and runs a program for it, replaying a captured graph
// where there is one, and holds what happened to the plan: bindings before, the device's own report after.
#pragma once

#include <array>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "contract/device_image.h"
#include "contract/replay_check.h"
#include "contract/step_report.h"
#include "device/graph.h"
#include "guard/flight_recorder.h"
#include "runtime/step_program.h"

namespace lockstep {

// How much is checked while serving.
enum class GuardLevel : uint8_t {
  kPlan,    // the plan, on the host
  kReplay,  // and what every replay binds, and what the device read
  kFull,    // and all page tables, probes, poison: for finding faults
};
std::string_view name_of(GuardLevel level);

// Every frozen fact of a plan, in the order of the field table: two plans of one key may share a graph.
struct GraphKey {
  static constexpr size_t kFacts = 8;
  std::array<int32_t, kFacts> facts{};
  auto operator<=>(const GraphKey&) const = default;
  // The shape alone: what a replica that has nothing to do shares with those that decode.
  GraphKey without_phase() const;
};
GraphKey graph_key(const StepPlan& plan);
Digest digest_of(const GraphKey& key);
std::string describe(const GraphKey& key);  // "phase 1, num_rows_padded 4, ..."

struct RunnerOptions {
  StepLimits limits;
  GuardLevel level = GuardLevel::kReplay;
  std::vector<const DerivedSpec*> derived;  // all that consumers derive
  bool overlapped = false;                  // a step may be run while the one before is under way
};

// How a step was run.
struct StepRun {
  GuardLevel level = GuardLevel::kReplay;
  bool replayed = false;
  std::string_view eager_reason;  // when not replayed; lives as long as the runner
};

// Thread: one owner. Borrows stream and memory map.
class StepRunner {
 public:
  // The time in which another thread holds a step to its capture.
  class Beside {
   public:
    explicit Beside(StepRunner& runner) : runner_(runner) {}
    ~Beside() { runner_.end_hold(); }
    Beside(const Beside&) = delete;
    Beside& operator=(const Beside&) = delete;

   private:
    StepRunner& runner_;
  };

  static int64_t footprint(const RunnerOptions& options);
  static Result<std::unique_ptr<StepRunner>> create(const RunnerOptions& options, Stream& stream,
                                                    const MemoryMap& map, Arena& arena);

  // Enqueues the plan's image, the program and the device's report. Errors: as Binder and
  // CapturedStep::check; nothing of the program has been enqueued then. At most one step before may be under
  // way, and only where no consumer derives anything.
  Status run(const StepPlan& plan, const StepProgram& program, const Launcher& on);
  // Where the plan will be replayed and another thread is free, that one begins to prepare the step and to
  // hold it to the capture, so that run() need not. Ends with what is returned: plan and program stay as they
  // are until then.
  [[nodiscard]] Beside hold_beside(const StepPlan& plan, const StepProgram& program);
  // Waits for everything before `end` and holds the device's report to the plan, which is of the oldest step
  // under way: no result of the step may be used before this says ok. Errors: kInternal, with a fault of
  // moment kCommit (R3, R4, R6).
  Status finish(const StepPlan& plan, Event end);
  Status finish(const StepPlan& plan) { return finish(plan, stream_.record()); }

  // Records the program under `plan` and keeps the graph for plans of its key. Nothing runs.
  // Errors: kInternal, with a fault of moment kCapture; kUnimplemented when a consumer may not be captured:
  // steps of that key run eagerly then, for the reason in the message.
  Status capture(const StepPlan& plan, const StepProgram& program, const Launcher& on);
  // Records once more, under another plan, and compares. Errors: as launch_difference(), naming the first
  // launch that differs, and its argument.
  Status recapture(const StepPlan& plan, const StepProgram& program, const Launcher& on);
  // Drops the graph of a key, if there is one: steps of that key run eagerly from now on, for this reason.
  void refuse(const GraphKey& key, std::string reason);

  bool has_graph(const GraphKey& key) const { return graphs_.count(key) > 0; }
  // Whether run() would replay a graph for this plan.
  bool replays(const StepPlan& plan) const { return eager_.empty() && has_graph(graph_key(plan)); }
  size_t graphs() const { return graphs_.size(); }
  void set_tables(std::vector<DeviceTable> tables) { report_.set_tables(std::move(tables)); }
  // As StepReport::bring_along().
  Status bring_along(const TensorView& outcome) { return report_.bring_along(outcome); }
  // Borrowed; told of every step before it is enqueued. Null: nobody.
  void set_recorder(FlightRecorder* recorder) { recorder_ = recorder; }
  void set_level(GuardLevel level) { options_.level = level; }
  GuardLevel level() const { return options_.level; }
  void set_eager(std::string reason) { eager_ = std::move(reason); }  // empty: replay where there is a graph

  const StepRun& last() const { return last_; }  // the step that finish() was given last
  std::span<const Binding> bindings() const { return bindings_.all(); }  // of the last step that was prepared
  const StepReport& report() const { return report_; }
  const DeviceImage& image() const { return image_; }
  DerivedFields& derived() { return derived_; }
  // Steps that ran without a graph, by reason.
  const std::map<std::string, int64_t, std::less<>>& eager_steps() const { return eager_steps_; }
  int64_t replays() const { return replays_; }

 private:
  struct Entry {
    Graph graph;
    CapturedStep captured;
  };
  struct Begun {
    uint64_t epoch = 0;
    StepRun run;
  };
  // What another thread does, and what came of it.
  struct Hold {
    StepRunner* runner = nullptr;
    const StepPlan* plan = nullptr;  // null: nobody is at work
    const StepProgram* program = nullptr;
    const Entry* entry = nullptr;
    bool held = false;
    static void run(const void* self, Worker worker);
  };
  StepRunner(const RunnerOptions& options, Stream& stream, const MemoryMap& map, DeviceImage image,
             int64_t bytes);
  Status prepare(const StepPlan& plan, const StepProgram& program, std::span<const Binding> expected = {});
  bool hold(const StepPlan& plan, const StepProgram& program, const Entry& entry);
  void tell_recorder(const GraphKey& key, const CapturedStep* captured, std::span<const Binding> bindings);
  bool end_hold();  // whether the plan was found to be as captured
  Status record(const StepPlan& plan, const StepProgram& program, const Launcher& on, Graph& graph);
  Status record_prepared(const StepProgram& program, const Launcher& on, Graph& graph);
  Status hold_to_capture(const StepPlan& plan, const StepProgram& program, const Launcher& on, Entry& entry);
  Status check_derived_on_device(const StepPlan& plan);
  std::string_view eager_reason(const StepPlan& plan, const GraphKey& key) const;
  std::string_view count_eager(std::string_view reason);  // the same, kept

  RunnerOptions options_;
  Stream& stream_;
  const MemoryMap& map_;
  DeviceImage image_;
  DerivedFields derived_;
  StepReport report_;
  StagingRing staging_;
  PreparedStep prepared_;
  BindingLog bindings_;
  std::map<GraphKey, Entry> graphs_;
  std::map<GraphKey, std::string> refused_;
  std::map<std::string, int64_t, std::less<>> eager_steps_;
  std::string eager_;
  Begun begun_;   // the newest step
  Begun before_;  // the one before it
  StepRun last_;
  Hold hold_;
  FlightRecorder* recorder_ = nullptr;
  int64_t replays_ = 0;
};

}  // namespace lockstep
