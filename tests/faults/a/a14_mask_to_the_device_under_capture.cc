// A host mask of which recurrent states are valid was made a device tensor during capture: a copy, which
// capture rejects, so that the engine went back to eager and told nobody. The fact is in the plan; and a step
// that runs without a graph is counted with its reason. xLLM-AI/xllm#2204, #2205.
#include "faults/consumers.h"
#include "faults/entries.h"

namespace lockstep::faults {
namespace {

struct MaskArgs {
  TensorView mask;  // [S] i32: 1 where a state is valid
  TensorView out;   // [S] i64
};
constexpr OpArg kArgs[] = {{LS_ARG(MaskArgs, mask), .dims = "S"},
                           {LS_ARG(MaskArgs, out), .access = Access::kWrite, .dims = "S"}};
constexpr OpSpec kOp{.name = "use_states", .args = kArgs, .args_bytes = sizeof(MaskArgs)};
constexpr const OpSpec* kOps[] = {&kOp};
constexpr FieldUse kUses[] = {{.field = FieldId::has_initial_state, .argument = "use_states.mask"}};
constexpr ConsumerSpec kBuilder{.name = "delta_rule", .ops = kOps};
constexpr ConsumerSpec kReader{.name = "delta_rule", .ops = kOps, .fields = kUses};

void use_states(const MaskArgs& args, Worker) {
  for (int64_t s = 0; s < kSeqs; ++s) args.out.as<int64_t>()[s] = 10 * args.mask.as<int32_t>()[s];
}

class DeltaRule final : public Consumer<MaskArgs> {
 public:
  DeltaRule(Workbench& bench, const ConsumerSpec& spec) : Consumer(bench, spec) {
    mask_ = bench.numbers("mask", {0, 0, 0, 0});
  }

 protected:
  bool builds() const { return &spec_ == &kBuilder; }
  Status bind(const Binder& binder, MaskArgs& args) const override {
    args.mask = builds() ? mask_ : LS_TRY(binder.address(spec_, FieldId::has_initial_state));
    args.out = bench_.sums();
    return {};
  }
  Status run(const MaskArgs& args, const Launcher& on) const override {
    const std::array<int32_t, kSeqs> on_host = {1, 1, 0, 0};
    if (builds()) LS_TRY(bench_.upload(mask_, on_host.data()));
    bench_.launch(on, {.spec = &kOp, .stage = "delta"}, use_states, args);
    return {};
  }

 private:
  TensorView mask_;
};

// Whatever happens at the capture, it goes on.
Status serve(const Where& where, const ConsumerSpec& spec, int64_t& replays) {
  const auto bench = LS_TRY(Workbench::create(where));
  const DeltaRule program(*bench, spec);
  const int32_t first = LS_TRY(bench->begin(20)), second = LS_TRY(bench->begin(30));
  StepPlan plan = LS_TRY(bench->decode({first}));
  const Status captured = bench->capture(plan, program);
  LS_TRY(bench->run_only(plan, program));
  plan = LS_TRY(bench->decode({first, second}));
  LS_TRY(bench->run_only(plan, program));
  LS_TRY(bench->check(std::array<int64_t, kSeqs>{10, 10, 0, 0}));
  replays = bench->runner().replays();
  int64_t counted = replays;
  for (const auto& [reason, steps] : bench->runner().eager_steps()) counted += steps;
  if (counted != 2) return error(Code::kInternal, counted, " of 2 steps are accounted for");
  return captured;
}

Status wrong(const Where& where) {
  int64_t replays = 0;
  return serve(where, kBuilder, replays);
}

Status twin(const Where& where) {
  int64_t replays = 0;
  LS_TRY(serve(where, kReader, replays));
  return replays == 2 ? Status() : error(Code::kInternal, replays, " replays; expected 2");
}

}  // namespace

const Entry kA14 = {
    .id = "A14",
    .fault_class = 'a',
    .title = "a mask is copied to the device inside a capture, and graphs are lost silently",
    .thread = "xLLM-AI/xllm#2204",
    .expect = {.moment = Moment::kCapture, .check = "L1", .field = "copy", .found = "during a capture"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
