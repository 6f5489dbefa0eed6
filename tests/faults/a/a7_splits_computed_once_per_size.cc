// Three functions that prepare metadata were merged into one, and calls that have to run at each replay fell
// out: the split counts were computed once per batch size. sgl-project/sglang#26019 (review), #6162.
#include "faults/consumers.h"
#include "faults/entries.h"
#include "plan/step_plan.h"

namespace lockstep::faults {
namespace {

constexpr FieldId kSources[] = {FieldId::seq_lens, FieldId::num_seqs};
void count_splits(const StepPlan& plan, std::span<int32_t> out) {
  for (size_t s = 0; s < out.size(); ++s) out[s] = (plan.get(field::seq_lens)[s].get() + kPage - 1) / kPage;
}
constexpr DerivedSpec kSplits{
    .name = "kv_splits",
    .unit = Unit::kPages,
    .sources = kSources,
    .capacity = [](const StepLimits&) { return int64_t{kSeqs}; },
    .range =
        [](const StepLimits&, const StepPlan&) {
          return DerivedSpec::Range{1, kTokens / kPage + 1};
        },
    .live = [](const StepLimits&,
               const StepPlan& plan) { return int64_t{plan.scalar(field::num_seqs).get()}; },
    .reference = [](const StepLimits&, const StepPlan& plan,
                    std::span<int32_t> out) { count_splits(plan, out); }};

struct SplitArgs {
  SumArgs sum;
  TensorView splits;  // [S] i32
};
constexpr OpArg kArgs[] = {{LS_ARG(SplitArgs, sum.values), .dims = "RN"},
                           {LS_ARG(SplitArgs, sum.lens), .dims = "S"},
                           {LS_ARG(SplitArgs, sum.rows), .dims = "S"},
                           {LS_ARG(SplitArgs, sum.out), .access = Access::kWrite, .dims = "S"},
                           {LS_ARG(SplitArgs, sum.num_seqs)},
                           {LS_ARG(SplitArgs, sum.longest)},
                           {LS_ARG(SplitArgs, splits), .dims = "S"}};
constexpr OpSpec kOp{.name = "split_sum", .args = kArgs, .args_bytes = sizeof(SplitArgs)};
constexpr const OpSpec* kOps[] = {&kOp};
constexpr FieldUse kUses[] = {{.field = FieldId::seq_lens, .argument = "split_sum.sum.lens"},
                              {.field = FieldId::table_rows, .argument = "split_sum.sum.rows"},
                              {.field = FieldId::num_seqs, .argument = "split_sum.sum.num_seqs"}};
constexpr const DerivedSpec* kDerived[] = {&kSplits};
constexpr ConsumerSpec kSpec{
    .name = "split_attention", .ops = kOps, .fields = kUses, .derives = kDerived, .reads = kDerived};

// Each sequence has as many splits of a page as the table says.
void split_sum(const SplitArgs& args, Worker worker) {
  for (int64_t s = 0; s < args.sum.num_seqs->get(); ++s) {
    SumArgs one = args.sum;
    one.longest = int64_t{args.splits.as<int32_t>()[s]} * kPage;
    one.lens = args.sum.lens.rows(s, 1);
    one.rows = args.sum.rows.rows(s, 1);
    one.out = args.sum.out.rows(s, 1);
    sum_values(one, worker);
  }
  for (int64_t s = args.sum.num_seqs->get(); s < kSeqs; ++s) args.sum.out.as<int64_t>()[s] = 0;
}

class SplitAttention final : public Consumer<SplitArgs> {
 public:
  SplitAttention(Workbench& bench, bool once) : Consumer(bench, kSpec), once_(once) {}

 protected:
  Status bind(const Binder& binder, SplitArgs& args) const override {
    args.sum.values = bench_.values();
    args.sum.lens = LS_TRY(binder.address(spec_, FieldId::seq_lens));
    args.sum.rows = LS_TRY(binder.address(spec_, FieldId::table_rows, kPages));
    args.sum.out = bench_.sums();
    args.sum.num_seqs = LS_TRY(binder.scalar_address(spec_, field::num_seqs));
    if (!once_ || !done_) count_splits(binder.plan(), LS_TRY(binder.derive(spec_, kSplits)));
    done_ = true;
    args.splits = LS_TRY(binder.derived(spec_, kSplits));
    return {};
  }
  Status run(const SplitArgs& args, const Launcher& on) const override {
    bench_.launch(on, {.spec = &kOp, .stage = "attention"}, split_sum, args);
    return {};
  }

 private:
  bool once_;
  mutable bool done_ = false;  // for this batch size
};

Status grow(const Where& where, bool once) {
  const auto bench = LS_TRY(Workbench::create(where, {.derived = {&kSplits}}));
  const SplitAttention attention(*bench, once);
  const int32_t first = LS_TRY(bench->begin(20)), second = LS_TRY(bench->begin(127));
  StepPlan plan = LS_TRY(bench->decode({first, second}));
  LS_TRY(bench->capture(plan, attention));
  plan = LS_TRY(bench->decode({first, second}));
  return bench->run(plan, attention);
}

Status wrong(const Where& where) { return grow(where, true); }
Status twin(const Where& where) { return grow(where, false); }

}  // namespace

const Entry kA7 = {
    .id = "A7",
    .fault_class = 'a',
    .title = "split counts are computed once per batch size, not at each replay",
    .thread = "sgl-project/sglang#26019",
    .expect = {.moment = Moment::kBind,
               .check = "P8",
               .field = "kv_splits",
               .consumer = "split_attention",
               .expected = "from this plan",
               .found = "derived in step"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
