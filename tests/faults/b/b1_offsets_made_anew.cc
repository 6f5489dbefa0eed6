// The path that prepares a replay, whose own flag forbids it to allocate, made the offsets tensor anew. The
// captured kernels keep the old address, and whoever allocates next gets it. The right one allocates once, at
// capacity, and fills. alibaba/rtp-llm#1259 (review).
#include "faults/consumers.h"
#include "faults/entries.h"
#include "plan/step_plan.h"

namespace lockstep::faults {
namespace {

constexpr FieldUse kUses[] = {kSumUses[1], kSumUses[2]};
constexpr ConsumerSpec kSpec{.name = "block_copy", .ops = kSumOps, .fields = kUses};

class BlockCopy final : public Sums {
 public:
  BlockCopy(Workbench& bench, bool anew) : Sums(bench, kSpec), anew_(anew) {
    offsets_ = bench.numbers("offsets", {0, 0, 0, 0});
  }
  Status fill(const StepPlan& plan) {
    if (anew_) offsets_ = bench_.numbers("offsets", {0, 0, 0, 0});
    return bench_.put_field(offsets_, plan, FieldId::seq_lens);
  }

 protected:
  Status bind(const Binder& binder, SumArgs& args) const override {
    args.values = bench_.values();
    args.lens = offsets_;
    args.rows = LS_TRY(binder.address(spec_, FieldId::table_rows, kPages));
    args.out = bench_.sums();
    args.num_seqs = LS_TRY(binder.scalar_address(spec_, field::num_seqs));
    args.longest = kTokens;
    return {};
  }

 private:
  bool anew_;
  TensorView offsets_;
};

Status capture_then_replay(const Where& where, bool anew) {
  const auto bench = LS_TRY(Workbench::create(where));
  BlockCopy copy(*bench, anew);
  const int32_t first = LS_TRY(bench->begin(20)), second = LS_TRY(bench->begin(30));
  StepPlan plan = LS_TRY(bench->decode({first}));
  LS_TRY(copy.fill(plan));
  LS_TRY(bench->capture(plan, copy));
  LS_TRY(bench->run(plan, copy));
  plan = LS_TRY(bench->decode({first, second}));
  LS_TRY(copy.fill(plan));
  return bench->run(plan, copy);
}

Status wrong(const Where& where) { return capture_then_replay(where, true); }
Status twin(const Where& where) { return capture_then_replay(where, false); }

}  // namespace

const Entry kB1 = {
    .id = "B1",
    .fault_class = 'b',
    .title = "an offsets tensor is made anew before each replay",
    .thread = "alibaba/rtp-llm#1259",
    .expect = {.moment = Moment::kReplay,
               .check = "R1",
               .field = "lens",
               .consumer = "block_copy",
               .expected = "bench/offsets",
               .found = "bench/offsets"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
