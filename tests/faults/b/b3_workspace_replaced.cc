// A workspace of sines and cosines that captured vision graphs read was replaced by a larger one. Freed
// memory stays mapped: no access fails, 485 of 500 answers are wrong. sgl-project/sglang#29216, #28569.
#include "faults/consumers.h"
#include "faults/entries.h"

namespace lockstep::faults {
namespace {

constexpr ConsumerSpec kSpec = sums_named("vision_rotary");

class VisionRotary final : public Sums {
 public:
  VisionRotary(Workbench& bench, const TensorView& table) : Sums(bench, kSpec), table_(table) {}

 protected:
  Status bind(const Binder& binder, SumArgs& args) const override {
    LS_TRY(Sums::bind(binder, args));
    args.values = table_;
    return {};
  }

 private:
  TensorView table_;
};

Status serve(const Where& where, bool replace) {
  const auto bench = LS_TRY(Workbench::create(where));
  const TensorView small = LS_TRY(bench->arena().allocate("sin_cos", DType::kI32, {kTables, kTokens}));
  LS_TRY(bench->copy(bench->values(), small));
  const VisionRotary rotary(*bench, small);
  const int32_t first = LS_TRY(bench->begin(20)), second = LS_TRY(bench->begin(30));
  StepPlan plan = LS_TRY(bench->decode({first}));
  LS_TRY(bench->capture(plan, rotary));
  LS_TRY(bench->run(plan, rotary));
  if (replace) {  // a larger image came; the old memory serves others
    const TensorView larger = LS_TRY(bench->arena().replace(small, {kTables, kTokens}));
    LS_TRY(bench->copy(bench->values(), larger));
    LS_TRY(bench->spoil(small));
  }
  plan = LS_TRY(bench->decode({first, second}));
  return bench->run(plan, rotary);
}

Status wrong(const Where& where) { return serve(where, true); }
Status twin(const Where& where) { return serve(where, false); }

}  // namespace

const Entry kB3 = {
    .id = "B3",
    .fault_class = 'b',
    .title = "a workspace is replaced while a graph reads it",
    .thread = "sgl-project/sglang#29216",
    .expect = {.moment = Moment::kReplay,
               .check = "R1",
               .field = "values",
               .expected = "bench/sin_cos",
               .found = "replaced"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
