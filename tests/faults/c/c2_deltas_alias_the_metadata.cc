// The KV lengths changed to cumulative form; during capture the tensor of deltas was the same memory as the
// static metadata, and the dummy warm-up garbled the first real request. xLLM-AI/xllm#2201.
#include "faults/consumers.h"
#include "faults/entries.h"

namespace lockstep::faults {
namespace {

struct DeltaArgs {
  TensorView cumulative;  // [S + 1] i32
  TensorView deltas;      // [S] i32
};
constexpr OpArg kArgs[] = {{LS_ARG(DeltaArgs, cumulative)},
                           {LS_ARG(DeltaArgs, deltas), .access = Access::kWrite, .dims = "S"}};
constexpr OpSpec kOp{.name = "deltas", .args = kArgs, .args_bytes = sizeof(DeltaArgs)};
constexpr const OpSpec* kOps[] = {&kOp};
constexpr FieldUse kUses[] = {{.field = FieldId::query_start_loc, .argument = "deltas.cumulative"}};
constexpr ConsumerSpec kSpec{.name = "kv_deltas", .ops = kOps, .fields = kUses};

void take_deltas(const DeltaArgs& args, Worker) {
  const int32_t* in = args.cumulative.as<int32_t>();
  for (int64_t s = 0; s < kSeqs; ++s) args.deltas.as<int32_t>()[s] = in[s + 1] - in[s];
}

class KvDeltas final : public Consumer<DeltaArgs> {
 public:
  KvDeltas(Workbench& bench, bool alias) : Consumer(bench, kSpec), alias_(alias) {
    deltas_ = bench.numbers("deltas", {0, 0, 0, 0});
  }
  const TensorView& deltas() const { return deltas_; }

 protected:
  Status bind(const Binder& binder, DeltaArgs& args) const override {
    args.cumulative = LS_TRY(binder.address(spec_, FieldId::query_start_loc));
    args.deltas = alias_ ? args.cumulative.rows(0, kSeqs) : deltas_;
    return {};
  }
  Status run(const DeltaArgs& args, const Launcher& on) const override {
    bench_.launch(on, {.spec = &kOp, .stage = "attention"}, take_deltas, args);
    return {};
  }

 private:
  bool alias_;
  TensorView deltas_;
};

Status serve(const Where& where, bool alias) {
  const auto bench = LS_TRY(Workbench::create(where));
  const KvDeltas program(*bench, alias);
  const int32_t first = LS_TRY(bench->begin(20)), second = LS_TRY(bench->begin(30));
  StepPlan plan = LS_TRY(bench->step({{first, 1}, {second, 3}}, 6));
  LS_TRY(bench->capture(plan, program));  // a warm-up, with what is there
  LS_TRY(bench->run_only(plan, program));
  plan = LS_TRY(bench->step({{first, 3}, {second, 1}}, 6));
  LS_TRY(bench->run_only(plan, program));
  const auto rows = bench->look<int32_t>(program.deltas(), 1);
  return alias || rows == 1 ? Status() : error(Code::kInternal, "delta ", rows, "; expected 1");
}

Status wrong(const Where& where) { return serve(where, true); }
Status twin(const Where& where) { return serve(where, false); }

}  // namespace

const Entry kC2 = {
    .id = "C2",
    .fault_class = 'c',
    .title = "deltas are written to the memory of the cumulative lengths",
    .thread = "xLLM-AI/xllm#2201",
    .expect = {.moment = Moment::kCapture, .check = "L4", .field = "deltas", .found = "query_start_loc"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
