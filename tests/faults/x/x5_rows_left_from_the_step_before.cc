// Invented. A kernel derives an entry per sequence and skips those that it takes for idle: their entries are
// the step before's, which lie in range and rise as they should. Only what was there before the step can
// tell.
#include "faults/consumers.h"
#include "faults/entries.h"
#include "plan/step_plan.h"

namespace lockstep::faults {
namespace {

constexpr FieldId kSources[] = {FieldId::seq_lens, FieldId::num_seqs};
constexpr DerivedSpec kPicked{
    .name = "picked_page",
    .maker = DerivedMaker::kDevice,
    .unit = Unit::kPages,
    .pad_value = -1,
    .sources = kSources,
    .capacity = [](const StepLimits&) { return int64_t{kSeqs}; },
    .range =
        [](const StepLimits&, const StepPlan&) {
          return DerivedSpec::Range{0, kTokens / kPage};
        },
    .live = [](const StepLimits&,
               const StepPlan& plan) { return int64_t{plan.scalar(field::num_seqs).get()}; },
    .reference =
        [](const StepLimits&, const StepPlan& plan, std::span<int32_t> out) {
          for (size_t s = 0; s < out.size(); ++s) out[s] = (plan.get(field::seq_lens)[s].get() - 1) / kPage;
        }};

struct PickArgs {
  TensorView lens;    // [S] i32
  TensorView picked;  // [S] i32: the page that holds the last token
  const LiveSeqs* num_seqs = nullptr;
  int64_t skip_even = 0;  // sequences of an even length count as idle
};
constexpr OpArg kArgs[] = {{LS_ARG(PickArgs, lens), .dims = "S"},
                           {LS_ARG(PickArgs, picked), .access = Access::kWrite, .dims = "S"},
                           {LS_ARG(PickArgs, num_seqs)},
                           {LS_ARG(PickArgs, skip_even)}};
constexpr OpSpec kOp{.name = "pick_pages", .args = kArgs, .args_bytes = sizeof(PickArgs)};
constexpr const OpSpec* kOps[] = {&kOp};
constexpr FieldUse kUses[] = {{.field = FieldId::seq_lens, .argument = "pick_pages.lens"},
                              {.field = FieldId::num_seqs, .argument = "pick_pages.num_seqs"}};
constexpr const DerivedSpec* kDerived[] = {&kPicked};
constexpr ConsumerSpec kSpec{.name = "page_picker", .ops = kOps, .fields = kUses, .derives = kDerived};

void pick_pages(const PickArgs& args, Worker) {
  for (int64_t s = 0; s < args.num_seqs->get(); ++s) {
    const int32_t length = args.lens.as<int32_t>()[s];
    if (args.skip_even == 0 || length % 2 != 0) args.picked.as<int32_t>()[s] = (length - 1) / kPage;
  }
}

class PagePicker final : public Consumer<PickArgs> {
 public:
  PagePicker(Workbench& bench, bool skip_even) : Consumer(bench, kSpec), skip_even_(skip_even) {}

 protected:
  Status bind(const Binder& binder, PickArgs& args) const override {
    args.lens = LS_TRY(binder.address(spec_, FieldId::seq_lens));
    args.picked = LS_TRY(binder.derive_on_device(spec_, kPicked));
    args.num_seqs = LS_TRY(binder.scalar_address(spec_, field::num_seqs));
    args.skip_even = skip_even_ ? 1 : 0;
    return {};
  }
  Status run(const PickArgs& args, const Launcher& on) const override {
    launch(on.stream, kOp, "pick", pick_pages, args, Parts::kOne);
    return {};
  }

 private:
  bool skip_even_;
};

Status serve(bool skip_even) {
  const auto bench = LS_TRY(Workbench::create(Where{}, {.derived = {&kPicked}}));
  const PagePicker picker(*bench, skip_even);
  const int32_t first = LS_TRY(bench->begin(20)), second = LS_TRY(bench->begin(10));
  const int32_t third = LS_TRY(bench->begin(299));
  StepPlan plan = LS_TRY(bench->decode({first, second}));
  LS_TRY(bench->capture(plan, picker));
  LS_TRY(bench->run_only(plan, picker));
  plan = LS_TRY(bench->decode({second, third}));  // 12 and 300 tokens
  LS_TRY(bench->run_only(plan, picker));
  const int32_t picked = bench->runner().derived().find(kPicked)->values.as<int32_t>()[1];
  return picked == 2 ? Status() : error(Code::kInternal, "page ", picked, " was picked; expected 2");
}

Status wrong() { return serve(true); }
Status twin() { return serve(false); }

}  // namespace

const Entry kX5 = {
    .id = "X5",
    .fault_class = 'c',
    .title = "invented: a derived entry is left from the step before",
    .thread = "",
    .expect = {.moment = Moment::kCommit, .check = "P3", .field = "picked_page", .row = 1},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
