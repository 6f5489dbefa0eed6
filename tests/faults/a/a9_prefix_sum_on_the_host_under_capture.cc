// A prefix sum over query lengths ran on the host, inside what was captured: a replay uses the old result. It
// was right only while query lengths were constant per graph, which nobody had written down.
// NVIDIA/TensorRT-LLM#17273 (review).
#include "faults/consumers.h"
#include "faults/entries.h"
#include "plan/step_plan.h"

namespace lockstep::faults {
namespace {

// How many rows each sequence has, by its offsets: on the device, or as the host summed them up.
struct RaggedArgs {
  TensorView starts;                         // [S + 1] i32
  TensorView out;                            // [S] i64
  std::array<int32_t, kSeqs + 1> on_host{};  // instead, where from_host is 1
  int32_t from_host = 0;
};
constexpr OpArg kArgs[] = {{LS_ARG(RaggedArgs, starts), .dims = "S"},
                           {LS_ARG(RaggedArgs, out), .access = Access::kWrite, .dims = "S"},
                           {LS_ARG(RaggedArgs, on_host)},
                           {LS_ARG(RaggedArgs, from_host)}};
constexpr OpSpec kOp{.name = "ragged_rows", .args = kArgs, .args_bytes = sizeof(RaggedArgs)};
constexpr const OpSpec* kOps[] = {&kOp};
constexpr FieldUse kUses[] = {{.field = FieldId::query_start_loc, .argument = "ragged_rows.starts"}};
constexpr ConsumerSpec kSpec{.name = "ragged_attention", .ops = kOps, .fields = kUses};

void ragged_rows(const RaggedArgs& args, Worker) {
  const int32_t* starts = args.from_host != 0 ? args.on_host.data() : args.starts.as<int32_t>();
  for (int64_t s = 0; s < kSeqs; ++s) args.out.as<int64_t>()[s] = starts[s + 1] - starts[s];
}

class RaggedAttention final : public Consumer<RaggedArgs> {
 public:
  RaggedAttention(Workbench& bench, bool on_host) : Consumer(bench, kSpec), on_host_(on_host) {}

 protected:
  Status bind(const Binder& binder, RaggedArgs& args) const override {
    args.starts = LS_TRY(binder.address(spec_, FieldId::query_start_loc));
    args.out = bench_.sums();
    args.from_host = on_host_ ? 1 : 0;
    for (size_t s = 0; on_host_ && s < args.on_host.size(); ++s)
      args.on_host[s] = binder.plan().get(field::query_start_loc)[s].get();
    return {};
  }
  Status run(const RaggedArgs& args, const Launcher& on) const override {
    bench_.launch(on, {.spec = &kOp, .stage = "attention"}, ragged_rows, args);
    return {};
  }

 private:
  bool on_host_;
};

// Verification steps of 9 rows, of which other sequences have 7, 1 and 1 each time.
Status verify(const Where& where, bool on_host) {
  const auto bench = LS_TRY(Workbench::create(where));
  const RaggedAttention attention(*bench, on_host);
  const int32_t a = LS_TRY(bench->begin(30)), b = LS_TRY(bench->begin(50)), c = LS_TRY(bench->begin(70));
  StepPlan plan = LS_TRY(bench->step({{a, 1}, {b, 7}, {c, 1}}, 10));
  LS_TRY(bench->capture(plan, attention));
  LS_TRY(bench->run_only(plan, attention));
  plan = LS_TRY(bench->step({{a, 1}, {b, 1}, {c, 7}}, 10));
  LS_TRY(bench->run_only(plan, attention));
  return bench->check(std::array<int64_t, 3>{1, 1, 7});
}

Status wrong(const Where& where) { return verify(where, true); }
Status twin(const Where& where) { return verify(where, false); }

}  // namespace

const Entry kA9 = {
    .id = "A9",
    .fault_class = 'a',
    .title = "a prefix sum ran on the host while the graph was captured",
    .thread = "NVIDIA/TensorRT-LLM#17273",
    .expect = {.moment = Moment::kReplay,
               .check = "R2",
               .field = "query_start_loc",
               .consumer = "ragged_attention",
               .row = 2,
               .expected = "8",
               .found = "2"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
