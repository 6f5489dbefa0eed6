// Invented. A kernel borrows a field of the plan as scratch and restores it before it ends; its spec says
// that it reads. The kernels in between see the scratch, and the step's end looks as its beginning did.
#include "faults/consumers.h"
#include "faults/entries.h"

namespace lockstep::faults {
namespace {

struct BorrowArgs {
  TensorView lens;  // [S] i32
  TensorView kept;  // [S] i32: what was there
  int32_t give_back = 0;
  int32_t in_place = 0;
};
constexpr OpArg kArgs[] = {{LS_ARG(BorrowArgs, lens), .dims = "S"},
                           {LS_ARG(BorrowArgs, kept), .access = Access::kReadWrite, .dims = "S"},
                           {LS_ARG(BorrowArgs, give_back)},
                           {LS_ARG(BorrowArgs, in_place)}};
constexpr OpSpec kOp{.name = "rotate", .args = kArgs, .args_bytes = sizeof(BorrowArgs)};
constexpr const OpSpec* kOps[] = {&kOp, &kSum};
constexpr FieldUse kUses[] = {
    kSumUses[0], kSumUses[1], kSumUses[2], {.field = FieldId::seq_lens, .argument = "rotate.lens"}};
constexpr ConsumerSpec kSpec{.name = "rotating_attention", .ops = kOps, .fields = kUses};

void rotate(const BorrowArgs& args, Worker) {
  auto* lens = args.lens.as<int32_t>();
  auto* kept = args.kept.as<int32_t>();
  for (int64_t s = 0; s < kSeqs && args.in_place != 0; ++s) {
    if (args.give_back == 0) kept[s] = lens[s];
    lens[s] = args.give_back != 0 ? kept[s] : 1;
  }
}

class Rotating final : public Sums {
 public:
  Rotating(Workbench& bench, bool in_place) : Sums(bench, kSpec), in_place_(in_place) {
    kept_ = bench.numbers("kept", {0, 0, 0, 0});
  }

 protected:
  Status run(const SumArgs& args, const Launcher& on) const override {
    BorrowArgs borrow{.lens = args.lens, .kept = kept_, .in_place = in_place_ ? 1 : 0};
    launch(on.stream, kOp, "borrow", rotate, borrow, Parts::kOne);
    LS_TRY(Sums::run(args, on));
    borrow.give_back = 1;
    launch(on.stream, kOp, "give back", rotate, borrow, Parts::kOne);
    return {};
  }

 private:
  bool in_place_;
  TensorView kept_;
};

Status serve(bool in_place) {
  const auto bench = LS_TRY(Workbench::create(Where{}));
  const Rotating attention(*bench, in_place);
  const int32_t first = LS_TRY(bench->begin(20)), second = LS_TRY(bench->begin(30));
  StepPlan plan = LS_TRY(bench->decode({first}));
  LS_TRY(bench->capture(plan, attention));
  LS_TRY(bench->run_only(plan, attention));
  plan = LS_TRY(bench->decode({second, first}));
  return bench->run(plan, attention);
}

Status wrong() { return serve(true); }
Status twin() { return serve(false); }

}  // namespace

const Entry kX3 = {
    .id = "X3",
    .fault_class = 'c',
    .title = "invented: a plan field is borrowed as scratch and restored",
    .thread = "",
    .expect = {.moment = Moment::kCommit, .check = "R4", .field = "seq_lens"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
