// The update step pointed the op at the newest block-table tensor while the captured graph had another. The
// right one keeps the captured tensor and fills it. vllm-project/vllm-ascend#8508.
#include "faults/consumers.h"
#include "faults/entries.h"
#include "plan/step_plan.h"

namespace lockstep::faults {
namespace {

constexpr FieldUse kUses[] = {kSumUses[0], kSumUses[2]};
constexpr ConsumerSpec kSpec{.name = "window_attention", .ops = kSumOps, .fields = kUses};

class WindowAttention final : public Sums {
 public:
  explicit WindowAttention(Workbench& bench) : Sums(bench, kSpec) {
    tables_ = {bench.numbers("block_table", {0, 0, 0, 0}), bench.numbers("newer_block_table", {0, 0, 0, 0})};
  }
  Status update(const StepPlan& plan, size_t table) {
    newest_ = table;
    return bench_.put_field(tables_[table], plan, FieldId::table_rows);
  }

 protected:
  Status bind(const Binder& binder, SumArgs& args) const override {
    args.values = bench_.values();
    args.lens = LS_TRY(binder.address(spec_, FieldId::seq_lens));
    args.rows = tables_[newest_];
    args.out = bench_.sums();
    args.num_seqs = LS_TRY(binder.scalar_address(spec_, field::num_seqs));
    args.longest = kTokens;
    return {};
  }

 private:
  std::array<TensorView, 2> tables_;
  size_t newest_ = 0;
};

Status serve(const Where& where, bool rebind) {
  const auto bench = LS_TRY(Workbench::create(where));
  WindowAttention attention(*bench);
  const int32_t first = LS_TRY(bench->begin(20)), second = LS_TRY(bench->begin(30));
  StepPlan plan = LS_TRY(bench->decode({first}));
  LS_TRY(attention.update(plan, 0));
  LS_TRY(bench->capture(plan, attention));
  LS_TRY(bench->run(plan, attention));
  plan = LS_TRY(bench->decode({second, first}));
  LS_TRY(attention.update(plan, rebind ? 1 : 0));
  return bench->run(plan, attention);
}

Status wrong(const Where& where) { return serve(where, true); }
Status twin(const Where& where) { return serve(where, false); }

}  // namespace

const Entry kB6 = {
    .id = "B6",
    .fault_class = 'b',
    .title = "block tables are bound to the newest tensor during a replay",
    .thread = "vllm-project/vllm-ascend#8508",
    .expect = {.moment = Moment::kReplay,
               .check = "R1",
               .field = "rows",
               .consumer = "window_attention",
               .expected = "bench/block_table",
               .found = "bench/newer_block_table"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
