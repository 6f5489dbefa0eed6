// An address of a per-step allocation was baked into a graph. Making it persistent was right, and changed
// nothing: the access that failed was another one's. Whoever repairs one binding must hear of the other, and
// the first message should name both. kekzl/imp#1648, #1708.
#include "faults/consumers.h"
#include "faults/entries.h"
#include "plan/step_plan.h"

namespace lockstep::faults {
namespace {

constexpr FieldUse kUses[] = {kSumUses[1], kSumUses[2]};
constexpr ConsumerSpec kSpec{.name = "moe_block", .ops = kSumOps, .fields = kUses};

class MoeBlock final : public Sums {
 public:
  MoeBlock(Workbench& bench, bool fresh_lengths, bool fresh_output)
      : Sums(bench, kSpec), fresh_lengths_(fresh_lengths), fresh_output_(fresh_output) {
    lengths_ = bench.numbers("lengths", {0, 0, 0, 0});
    output_ = bench.sums();
  }
  Status begin_step(const StepPlan& plan) {
    if (fresh_lengths_) lengths_ = bench_.numbers("lengths", {0, 0, 0, 0});
    if (fresh_output_) output_ = LS_TRY(bench_.arena().allocate("partial_sums", DType::kI64, {kSeqs}));
    return bench_.put_field(lengths_, plan, FieldId::seq_lens);
  }

 protected:
  Status bind(const Binder& binder, SumArgs& args) const override {
    args.values = bench_.values();
    args.lens = lengths_;
    args.rows = LS_TRY(binder.address(spec_, FieldId::table_rows, kPages));
    args.out = output_;
    args.num_seqs = LS_TRY(binder.scalar_address(spec_, field::num_seqs));
    args.longest = kTokens;
    return {};
  }

 private:
  bool fresh_lengths_;
  bool fresh_output_;
  TensorView lengths_;
  TensorView output_;
};

Status serve(const Where& where, bool fresh_lengths, bool fresh_output) {
  const auto bench = LS_TRY(Workbench::create(where));
  MoeBlock block(*bench, fresh_lengths, fresh_output);
  const int32_t first = LS_TRY(bench->begin(20)), second = LS_TRY(bench->begin(30));
  StepPlan plan = LS_TRY(bench->decode({first}));
  LS_TRY(block.begin_step(plan));
  LS_TRY(bench->capture(plan, block));
  LS_TRY(bench->run_only(plan, block));
  plan = LS_TRY(bench->decode({first, second}));
  LS_TRY(block.begin_step(plan));
  LS_TRY(bench->run_only(plan, block));
  return fresh_output ? Status() : bench->check_sums(plan);
}

// The plausible one is repaired; then this is what is left.
Status wrong(const Where& where) {
  const Status both = serve(where, true, true);
  if (both.ok()) return both;
  const Status other = serve(where, false, true);
  const bool named = other.fault() != nullptr && other.fault()->field == "out" &&
                     other.fault()->found.find("bench/partial_sums") != std::string::npos;
  return named ? both : error(Code::kInternal, "after one repair: \"", other.message(), "\"");
}
Status twin(const Where& where) { return serve(where, false, false); }

}  // namespace

const Entry kB7 = {
    .id = "B7",
    .fault_class = 'b',
    .title = "of two stale bindings the plausible one is repaired",
    .thread = "kekzl/imp#1648",
    .expect = {.moment = Moment::kReplay,
               .check = "R1",
               .field = "lens",
               .consumer = "moe_block",
               .expected = "bench/lengths",
               .found = "out"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
