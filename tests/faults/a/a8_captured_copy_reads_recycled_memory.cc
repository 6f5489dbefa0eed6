// A table of pointers is staged in pinned memory, copied, and the block goes back to its allocator. Under
// capture the copy is a node that holds the host address: every replay copies whatever lies there by then.
// microsoft/onnxruntime#32121.
#include "faults/consumers.h"
#include "faults/entries.h"
#include "plan/step_plan.h"

namespace lockstep::faults {
namespace {

constexpr FieldUse kUses[] = {kSumUses[0], kSumUses[2]};
constexpr ConsumerSpec kSpec{.name = "concat", .ops = kSumOps, .fields = kUses};

// Which row each input lies in comes from a table that it brings to the device itself.
class Concat final : public Sums {
 public:
  Concat(Workbench& bench, bool in_graph) : Sums(bench, kSpec), in_graph_(in_graph) {
    table_ = bench.numbers("pointers", {0, 0, 0, 0});
  }
  Status fill(const StepPlan& plan) {
    for (size_t s = 0; s < rows_.size(); ++s) rows_[s] = plan.get(field::table_rows, kPages)[s].get();
    return in_graph_ ? Status() : bench_.upload(table_, rows_.data());
  }

 protected:
  Status bind(const Binder& binder, SumArgs& args) const override {
    args.values = bench_.values();
    args.lens = LS_TRY(binder.address(spec_, FieldId::seq_lens));
    args.rows = table_;
    args.out = bench_.sums();
    args.num_seqs = LS_TRY(binder.scalar_address(spec_, field::num_seqs));
    args.longest = kTokens;
    return {};
  }
  Status run(const SumArgs& args, const Launcher& on) const override {
    if (in_graph_) LS_TRY(bench_.upload(table_, rows_.data()));
    return Sums::run(args, on);
  }

 private:
  bool in_graph_;
  TensorView table_;
  std::array<int32_t, kSeqs> rows_{};
};

Status capture_then_replay(const Where& where, bool copy_in_graph) {
  const auto bench = LS_TRY(Workbench::create(where));
  Concat concat(*bench, copy_in_graph);
  const int32_t first = LS_TRY(bench->begin(20)), second = LS_TRY(bench->begin(40));
  StepPlan plan = LS_TRY(bench->decode({first}));
  LS_TRY(concat.fill(plan));
  LS_TRY(bench->run(plan, concat));
  LS_TRY(bench->capture(plan, concat));
  plan = LS_TRY(bench->decode({second, first}));
  LS_TRY(concat.fill(plan));
  return bench->run(plan, concat);
}

Status wrong(const Where& where) { return capture_then_replay(where, true); }
Status twin(const Where& where) { return capture_then_replay(where, false); }

}  // namespace

const Entry kA8 = {
    .id = "A8",
    .fault_class = 'a',
    .title = "a captured copy reads staging memory that has been given to others",
    .thread = "microsoft/onnxruntime#32121",
    .expect = {.moment = Moment::kCapture,
               .check = "L1",
               .field = "copy",
               .found = "16 bytes from host memory"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
