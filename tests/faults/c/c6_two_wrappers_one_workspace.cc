// Two wrappers share a workspace; both are planned, then both run. That was right only because the library in
// that version kept its plans elsewhere. The right ones have a workspace each. alibaba/rtp-llm#1231 (review).
#include "faults/consumers.h"
#include "faults/entries.h"
#include "plan/step_plan.h"

namespace lockstep::faults {
namespace {

int64_t one_each(const StepLimits&) { return kSeqs; }
DerivedSpec::Range any(const StepLimits&, const StepPlan&) { return {0, 1 << 20}; }
int64_t live(const StepLimits&, const StepPlan& plan) { return plan.scalar(field::num_seqs).get(); }
void lengths(const StepLimits&, const StepPlan& plan, std::span<int32_t> out) {
  for (size_t s = 0; s < out.size(); ++s) out[s] = plan.get(field::seq_lens)[s].get();
}
constexpr FieldId kSources[] = {FieldId::seq_lens, FieldId::num_seqs};
constexpr DerivedSpec workspace(std::string_view name) {
  return {.name = name,
          .unit = Unit::kTokens,
          .sources = kSources,
          .capacity = one_each,
          .range = any,
          .live = live,
          .reference = lengths};
}
constexpr DerivedSpec kShared = workspace("int_workspace"), kOther = workspace("decode_workspace");

constexpr const DerivedSpec* kFirst[] = {&kShared};
constexpr const DerivedSpec* kSecond[] = {&kOther};
constexpr FieldUse kUses[] = {kSumUses[1], kSumUses[2]};
constexpr ConsumerSpec wrapper(std::string_view name, std::span<const DerivedSpec* const> space) {
  return {.name = name, .ops = kSumOps, .fields = kUses, .derives = space, .reads = space};
}
constexpr ConsumerSpec kPrefill = wrapper("prefill_wrapper", kFirst);
constexpr ConsumerSpec kDecodeShared = wrapper("decode_wrapper", kFirst);
constexpr ConsumerSpec kDecodeOwn = wrapper("decode_wrapper", kSecond);

// Plans the lengths that its kernel takes.
class Wrapper final : public Sums {
 public:
  Wrapper(Workbench& bench, const ConsumerSpec& spec) : Sums(bench, spec) {}

 protected:
  Status bind(const Binder& binder, SumArgs& args) const override {
    const DerivedSpec& space = *spec_.derives.front();
    lengths(bench_.limits(), binder.plan(), LS_TRY(binder.derive(spec_, space)));
    args.values = bench_.values();
    args.lens = LS_TRY(binder.derived(spec_, space)).rows(0, kSeqs);
    args.rows = LS_TRY(binder.address(spec_, FieldId::table_rows, kPages));
    args.out = bench_.sums();
    args.num_seqs = LS_TRY(binder.scalar_address(spec_, field::num_seqs));
    args.longest = kTokens;
    return {};
  }
};

// plan, plan, run, run
class Both final : public StepProgram {
 public:
  Both(Workbench& bench, const ConsumerSpec& second) : prefill_(bench, kPrefill), decode_(bench, second) {}
  Status prepare(const Binder& binder, PreparedStep& step) const override {
    LS_TRY(prefill_.prepare(binder, step));
    return decode_.prepare(binder, step);
  }
  Status enqueue(const PreparedStep& step, const Launcher& on) const override {
    LS_TRY(prefill_.enqueue(step, on));
    return decode_.enqueue(step, on);
  }

 private:
  Wrapper prefill_;
  Wrapper decode_;
};

Status serve(const Where& where, const ConsumerSpec& second) {
  const auto bench = LS_TRY(Workbench::create(where, {.derived = {&kShared, &kOther}}));
  const Both both(*bench, second);
  const int32_t a = LS_TRY(bench->begin(20)), b = LS_TRY(bench->begin(30));
  StepPlan plan = LS_TRY(bench->decode({a}));
  LS_TRY(bench->capture(plan, both));
  LS_TRY(bench->run(plan, both));
  plan = LS_TRY(bench->decode({a, b}));
  return bench->run(plan, both);
}

Status wrong(const Where& where) { return serve(where, kDecodeShared); }
Status twin(const Where& where) { return serve(where, kDecodeOwn); }

}  // namespace

const Entry kC6 = {
    .id = "C6",
    .fault_class = 'c',
    .title = "two wrappers are planned into one workspace before either runs",
    .thread = "alibaba/rtp-llm#1231",
    .expect = {.moment = Moment::kBind,
               .check = "L4",
               .field = "int_workspace",
               .consumer = "decode_wrapper",
               .found = "prefill_wrapper"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
