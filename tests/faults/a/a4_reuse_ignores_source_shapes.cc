// Whether a graph may be reused was told by each node's own shape and the addresses of its sources, not by
// their shapes. Values times weights gives the same output at the same place for any length of the cache, so
// the old length stayed in the kernel past a padding boundary. ikawrakow/ik_llama.cpp#2096.
#include "faults/consumers.h"
#include "faults/entries.h"
#include "plan/step_plan.h"

namespace lockstep::faults {
namespace {

constexpr int32_t kPadding = 256;  // lengths are padded to these
constexpr ConsumerSpec kSpec = sums_named("values_times_weights");

// Its source is as wide as the longest sequence, padded.
class ValuesTimesWeights final : public Sums {
 public:
  using Sums::Sums;

 protected:
  Status bind(const Binder& binder, SumArgs& args) const override {
    LS_TRY(Sums::bind(binder, args));
    const int32_t longest = binder.plan().scalar(field::max_seq_len).get();
    args.values = bench_.values().columns(0, (longest + kPadding - 1) / kPadding * kPadding);
    return {};
  }
};

// Captured below the boundary, replayed across it.
Status grow(const Where& where, bool whole_source) {
  const auto bench = LS_TRY(Workbench::create(where));
  const ValuesTimesWeights padded(*bench, kSpec);
  const Sums whole(*bench, kSpec);
  const StepProgram& program = whole_source ? static_cast<const StepProgram&>(whole) : padded;
  const int32_t first = LS_TRY(bench->begin(20)), second = LS_TRY(bench->begin(250));
  StepPlan plan = LS_TRY(bench->decode({first}));
  LS_TRY(bench->run(plan, program));
  LS_TRY(bench->capture(plan, program));
  for (int32_t i = 0; i < 10; ++i) {
    plan = LS_TRY(bench->decode({first, second}));
    LS_TRY(bench->run(plan, program));
  }
  return {};
}

Status wrong(const Where& where) { return grow(where, false); }
Status twin(const Where& where) { return grow(where, true); }

}  // namespace

const Entry kA4 = {
    .id = "A4",
    .fault_class = 'a',
    .title = "a graph is reused although a source has another shape",
    .thread = "ikawrakow/ik_llama.cpp#2096",
    .expect = {.moment = Moment::kReplay,
               .check = "R1",
               .field = "values",
               .consumer = "values_times_weights",
               .expected = "256",
               .found = "512"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
