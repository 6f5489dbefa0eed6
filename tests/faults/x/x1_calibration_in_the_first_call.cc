// Invented. An op calibrates itself in its first call: one launch more, whose result it keeps. The first call
// is the one that a capture records, so every replay calibrates anew, with whatever batch is there. Its
// prepared bytes never change; recording the program under another plan shows one launch less.
#include "faults/consumers.h"
#include "faults/entries.h"

namespace lockstep::faults {
namespace {

constexpr ConsumerSpec kSpec = sums_named("calibrated_attention");

class Calibrated final : public Sums {
 public:
  Calibrated(Workbench& bench, bool ahead) : Sums(bench, kSpec), calibrated_(ahead) {}

 protected:
  Status run(const SumArgs& args, const Launcher& on) const override {
    if (!calibrated_) {
      SumArgs first = args;
      first.longest = 1;
      bench_.launch(on, {.spec = &kSum, .stage = "calibrate"}, sum_values, first);
    }
    calibrated_ = true;
    return Sums::run(args, on);
  }

 private:
  mutable bool calibrated_;
};

Status prove(const Where& where, bool ahead) {
  const auto bench = LS_TRY(Workbench::create(where));
  const Calibrated attention(*bench, ahead);
  const int32_t first = LS_TRY(bench->begin(20)), second = LS_TRY(bench->begin(30));
  StepPlan plan = LS_TRY(bench->decode({first}));
  LS_TRY(bench->capture(plan, attention));
  LS_TRY(bench->run(plan, attention));
  plan = LS_TRY(bench->decode({second, first}));
  LS_TRY(bench->runner().recapture(plan, attention, bench->launcher()));
  return bench->run(plan, attention);
}

Status wrong(const Where& where) { return prove(where, false); }
Status twin(const Where& where) { return prove(where, true); }

}  // namespace

const Entry kX1 = {
    .id = "X1",
    .fault_class = 'a',
    .title = "invented: what an op does in its first call alone is captured for ever",
    .thread = "",
    .expect = {.moment = Moment::kCapture,
               .check = "R2",
               .field = "launch",
               .consumer = "sum_values (calibrate, layer -1)"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
