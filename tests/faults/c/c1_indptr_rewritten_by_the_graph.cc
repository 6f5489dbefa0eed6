// [0, K, 2K, ...] is made ahead and handed to the planner as the wrapper's own kv_indptr. A kernel inside the
// graph rewrites that memory with the real sums, and the next step plans from what it left: seen only when
// the sums happen to fall, from 36606 to 34891. OpenBMB SGLang fork, branch minicpm_sala, PR 2 and 3.
#include "faults/consumers.h"
#include "faults/entries.h"
#include "plan/step_plan.h"

namespace lockstep::faults {
namespace {

constexpr int32_t kTopTokens = 4096;
constexpr FieldId kSources[] = {FieldId::num_seqs};

constexpr DerivedSpec kIndptr{.name = "kv_indptr",
                              .unit = Unit::kTokens,
                              .form = Form::kCumulative,
                              .rule = DerivedRule::kMonotone,
                              .sources = kSources,
                              .capacity = [](const StepLimits&) { return int64_t{kSeqs + 1}; },
                              .range =
                                  [](const StepLimits&, const StepPlan&) {
                                    return DerivedSpec::Range{0, 1 << 20};
                                  },
                              .live = [](const StepLimits&, const StepPlan&) { return int64_t{kSeqs + 1}; },
                              .reference =
                                  [](const StepLimits&, const StepPlan&, std::span<int32_t> out) {
                                    for (size_t i = 0; i < out.size(); ++i)
                                      out[i] = static_cast<int32_t>(i) * kTopTokens;
                                  }};

struct ConvertArgs {
  TensorView counts;     // [S] i32: tokens of the pages that were selected
  TensorView kv_indptr;  // [S + 1] i32: their sums
};
constexpr OpArg kArgs[] = {{LS_ARG(ConvertArgs, counts), .dims = "S"},
                           {LS_ARG(ConvertArgs, kv_indptr), .access = Access::kWrite}};
constexpr OpSpec kOp{.name = "convert_indices", .args = kArgs, .args_bytes = sizeof(ConvertArgs)};
constexpr const OpSpec* kOps[] = {&kOp};
constexpr const DerivedSpec* kDerived[] = {&kIndptr};
constexpr ConsumerSpec kSpec{.name = "sparse_decode", .ops = kOps, .derives = kDerived, .reads = kDerived};

void convert(const ConvertArgs& args, Worker) {
  int32_t sum = 0;
  for (int64_t s = 0; s <= kSeqs; ++s) {
    args.kv_indptr.as<int32_t>()[s] = sum;
    if (s < kSeqs) sum += args.counts.as<int32_t>()[s];
  }
}

class SparseDecode final : public Consumer<ConvertArgs> {
 public:
  SparseDecode(Workbench& bench, bool in_place) : Consumer(bench, kSpec), in_place_(in_place) {
    counts_ = bench.numbers("counts", {3201, 3902, 4001, 3977});
    own_ = bench.numbers("selected_indptr", {0, 0, 0, 0, 0});
  }
  const TensorView& own() const { return own_; }

 protected:
  Status bind(const Binder& binder, ConvertArgs& args) const override {
    const std::span<int32_t> planned = LS_TRY(binder.derive(spec_, kIndptr));
    kIndptr.reference(bench_.limits(), binder.plan(), planned);
    const TensorView shared = LS_TRY(binder.derived(spec_, kIndptr));
    args.counts = counts_;
    args.kv_indptr = in_place_ ? shared : own_;
    return {};
  }
  Status run(const ConvertArgs& args, const Launcher& on) const override {
    bench_.launch(on, {.spec = &kOp, .stage = "sparse"}, convert, args);
    return {};
  }

 private:
  bool in_place_;
  TensorView counts_;
  TensorView own_;
};

Status serve(const Where& where, bool in_place) {
  const auto bench = LS_TRY(Workbench::create(where, {.derived = {&kIndptr}}));
  const SparseDecode program(*bench, in_place);
  const int32_t first = LS_TRY(bench->begin(20)), second = LS_TRY(bench->begin(30));
  StepPlan plan = LS_TRY(bench->decode({first}));
  LS_TRY(bench->capture(plan, program));
  for (int32_t i = 0; i < 3; ++i) {
    plan = LS_TRY(bench->decode({first, second}));
    LS_TRY(bench->run_only(plan, program));
  }
  const auto last = bench->look<int32_t>(program.own(), 2);
  return in_place || last == 7103 ? Status() : error(Code::kInternal, "sum ", last, "; expected 7103");
}

Status wrong(const Where& where) { return serve(where, true); }
Status twin(const Where& where) { return serve(where, false); }

}  // namespace

const Entry kC1 = {
    .id = "C1",
    .fault_class = 'c',
    .title = "a kernel of the graph rewrites the indptr that the planner made",
    .thread = "OpenBMB SGLang fork, minicpm_sala#2",
    .expect = {.moment = Moment::kCapture, .check = "L4", .field = "kv_indptr", .found = "kv_indptr"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
