// What follows from the prefixes (the longest, the tokens, whether to look at pages at all) stays as it was
// at capture, and is right only if the capture was on the same side of every branch. The right one takes the
// branch that serves both sides. alibaba/rtp-llm#1256 (review).
#include "faults/consumers.h"
#include "faults/entries.h"
#include "plan/step_plan.h"

namespace lockstep::faults {
namespace {

constexpr ConsumerSpec kSpec = sums_named("prefix_attention");

class PrefixAttention final : public Sums {
 public:
  PrefixAttention(Workbench& bench, bool always_paged) : Sums(bench, kSpec), always_paged_(always_paged) {}

 protected:
  Status bind(const Binder& binder, SumArgs& args) const override {
    LS_TRY(Sums::bind(binder, args));
    bool prefix = always_paged_;
    for (const TokenCount computed : binder.plan().get(field::computed_lens)) prefix |= computed.get() > 0;
    const bool use_paged = binder.decide(spec_, "use_paged", prefix ? 1 : 0) != 0;
    args.longest = use_paged ? kTokens : 4;  // without pages: the step's own rows
    return {};
  }

 private:
  bool always_paged_;
};

// A prompt of 8 tokens in two chunks of 4; the graph was captured for the first of another prompt.
Status prefill(const Where& where, bool always_paged) {
  const auto bench = LS_TRY(Workbench::create(where));
  const PrefixAttention attention(*bench, always_paged);
  const int32_t first = LS_TRY(bench->begin(0)), second = LS_TRY(bench->begin(0));
  StepPlan plan = LS_TRY(bench->step({{first, 4}}, 8));
  LS_TRY(bench->capture(plan, attention));
  LS_TRY(bench->run(plan, attention));
  plan = LS_TRY(bench->step({{second, 4}}, 8));
  LS_TRY(bench->run(plan, attention));
  plan = LS_TRY(bench->step({{second, 4}}, 8));
  return bench->run(plan, attention);
}

Status wrong(const Where& where) { return prefill(where, false); }
Status twin(const Where& where) { return prefill(where, true); }

}  // namespace

const Entry kA10 = {
    .id = "A10",
    .fault_class = 'a',
    .title = "whether there are prefixes was decided once, at capture",
    .thread = "alibaba/rtp-llm#1256",
    .expect = {.moment = Moment::kReplay,
               .check = "R5",
               .field = "use_paged",
               .consumer = "prefix_attention",
               .expected = "0",
               .found = "1"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
