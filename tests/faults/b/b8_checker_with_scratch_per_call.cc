// The checker had the disease: the canary's own launcher made scratch per call, inside what was captured.
// A checker's buffers are leased like everybody's. sgl-project/sglang#26807 (review), #33520.
#include "faults/consumers.h"
#include "faults/entries.h"

namespace lockstep::faults {
namespace {

constexpr ConsumerSpec kSpec = sums_named("kv_canary");

// A canary over the same rows, whose sums nobody but the checker reads.
class Canary final : public Sums {
 public:
  Canary(Workbench& bench, const TensorView& persistent) : Sums(bench, kSpec), persistent_(persistent) {}

 protected:
  Status run(const SumArgs& args, const Launcher& on) const override {
    LS_TRY(Sums::run(args, on));
    SumArgs canary = args;
    scratch_.assign(kSeqs, 0);
    canary.out = persistent_ ? persistent_ : dense_view(scratch_.data(), DType::kI64, {kSeqs});
    bench_.launch(on, {.spec = &kSum, .stage = "canary"}, sum_values, canary);
    return {};
  }

 private:
  TensorView persistent_;
  mutable std::vector<int64_t> scratch_;  // per call
};

Status serve(const Where& where, bool persistent) {
  const auto bench = LS_TRY(Workbench::create(where));
  const TensorView scratch = LS_TRY(bench->arena().allocate("canary scratch", DType::kI64, {kSeqs}));
  const Canary canary(*bench, persistent ? scratch : TensorView());
  const int32_t first = LS_TRY(bench->begin(20)), second = LS_TRY(bench->begin(30));
  StepPlan plan = LS_TRY(bench->decode({first}));
  LS_TRY(bench->capture(plan, canary));
  LS_TRY(bench->run(plan, canary));
  plan = LS_TRY(bench->decode({first, second}));
  return bench->run(plan, canary);
}

Status wrong(const Where& where) { return serve(where, false); }
Status twin(const Where& where) { return serve(where, true); }

}  // namespace

const Entry kB8 = {
    .id = "B8",
    .fault_class = 'b',
    .title = "the checker makes scratch per call inside the capture",
    .thread = "sgl-project/sglang#26807",
    .expect = {.moment = Moment::kCapture,
               .check = "R1",
               .field = "out",
               .consumer = "sum_values (canary, layer -1)",
               .found = "in no arena"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
