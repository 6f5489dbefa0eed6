// A persistent list of blocks to be zeroed was refilled while a kernel still had to read it.
// vllm-project/vllm#48085, #48399.
#include "faults/consumers.h"
#include "faults/entries.h"
#include "plan/step_plan.h"

namespace lockstep::faults {
namespace {

constexpr FieldId kSources[] = {FieldId::table_rows, FieldId::num_seqs};
void rows_to_zero(const StepPlan& plan, std::span<int32_t> out) {
  for (size_t s = 0; s < out.size(); ++s) out[s] = plan.get(field::table_rows, kPages)[s].get();
}
constexpr DerivedSpec kList{
    .name = "zero_list",
    .unit = Unit::kRows,
    .sources = kSources,
    .capacity = [](const StepLimits&) { return int64_t{kSeqs}; },
    .range =
        [](const StepLimits&, const StepPlan&) {
          return DerivedSpec::Range{1, kTables};
        },
    .live = [](const StepLimits&,
               const StepPlan& plan) { return int64_t{plan.scalar(field::num_seqs).get()}; },
    .reference = [](const StepLimits&, const StepPlan& plan,
                    std::span<int32_t> out) { rows_to_zero(plan, out); }};
constexpr const DerivedSpec* kDerived[] = {&kList};
constexpr FieldUse kUses[] = {kSumUses[0], kSumUses[2]};
constexpr ConsumerSpec kSpec{
    .name = "zero_blocks", .ops = kSumOps, .fields = kUses, .derives = kDerived, .reads = kDerived};

// Stands for the zeroing: what it has read shows in its sums.
class ZeroBlocks final : public Sums {
 public:
  explicit ZeroBlocks(Workbench& bench) : Sums(bench, kSpec) {}

 protected:
  Status bind(const Binder& binder, SumArgs& args) const override {
    rows_to_zero(binder.plan(), LS_TRY(binder.derive(spec_, kList)));
    args.values = bench_.values();
    args.lens = LS_TRY(binder.address(spec_, FieldId::seq_lens));
    args.rows = LS_TRY(binder.derived(spec_, kList));
    args.out = bench_.sums();
    args.num_seqs = LS_TRY(binder.scalar_address(spec_, field::num_seqs));
    args.longest = kTokens;
    return {};
  }
};

// The next step's list goes where this step's is, once its copy has landed and before its kernel has run.
Status serve(const Where& where, bool in_place) {
  const auto bench = LS_TRY(Workbench::create(where, {.pace = Pace::kLate, .derived = {&kList}}));
  const ZeroBlocks program(*bench);
  const int32_t first = LS_TRY(bench->begin(20)), second = LS_TRY(bench->begin(30));
  StepPlan plan = LS_TRY(bench->decode({first}));
  LS_TRY(bench->capture(plan, program));
  LS_TRY(bench->run(plan, program));
  plan = LS_TRY(bench->decode({first, second}));
  bench->forget_sums();
  const Event before = bench->stream().record();
  LS_TRY(bench->runner().run(plan, program, bench->launcher()));
  bench->stream().wait({before.sequence + 3});  // the plan's image, its digests, the list
  if (in_place) {
    constexpr int32_t kNext = 3;
    LS_TRY(bench->poke(bench->runner().derived().find(kList)->values.rows(1, 1), &kNext));
  }
  LS_TRY(bench->runner().finish(plan));
  return bench->check_sums(plan);
}

Status wrong(const Where& where) { return serve(where, true); }
Status twin(const Where& where) { return serve(where, false); }

}  // namespace

const Entry kH6 = {
    .id = "H6",
    .fault_class = 'h',
    .title = "a list that a kernel has still to read is refilled",
    .thread = "vllm-project/vllm#48085",
    .expect = {.moment = Moment::kCommit, .check = "R4", .field = "zero_list", .row = 1, .found = "3"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
