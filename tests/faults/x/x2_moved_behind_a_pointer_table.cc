// Invented. A launch reads a table in device memory whose entries are addresses. The graph leases the table,
// but what it points at is moved: the table's own address never changes.
#include <algorithm>
#include <cstring>

#include "faults/consumers.h"
#include "faults/entries.h"
#include "plan/step_plan.h"

namespace lockstep::faults {
namespace {

struct GatherArgs {
  TensorView pointers;  // [S] i64: where each sequence's values begin
  TensorView lens;      // [S] i32
  TensorView out;       // [S] i64
  const LiveSeqs* num_seqs = nullptr;
};
constexpr OpArg kArgs[] = {{LS_ARG(GatherArgs, pointers), .dims = "S"},
                           {LS_ARG(GatherArgs, lens), .dims = "S"},
                           {LS_ARG(GatherArgs, out), .access = Access::kWrite, .dims = "S"},
                           {LS_ARG(GatherArgs, num_seqs)}};
constexpr OpSpec kOp{.name = "gather_sum", .args = kArgs, .args_bytes = sizeof(GatherArgs)};
constexpr const OpSpec* kOps[] = {&kOp};
constexpr FieldUse kUses[] = {{.field = FieldId::seq_lens, .argument = "gather_sum.lens"},
                              {.field = FieldId::num_seqs, .argument = "gather_sum.num_seqs"}};
constexpr ConsumerSpec kSpec{.name = "pointer_attention", .ops = kOps, .fields = kUses};

void gather_sum(const GatherArgs& args, Worker) {
  for (int64_t s = 0; s < kSeqs; ++s) {
    int64_t sum = 0;
    const auto* row = reinterpret_cast<const int32_t*>(args.pointers.as<int64_t>()[s]);
    const bool live = s < args.num_seqs->get();
    for (int32_t t = 0; live && t < args.lens.as<int32_t>()[s]; ++t) sum += row[t];
    args.out.as<int64_t>()[s] = sum;
  }
}

class PointerAttention final : public Consumer<GatherArgs> {
 public:
  PointerAttention(Workbench& bench, const TensorView& pointers)
      : Consumer(bench, kSpec), pointers_(pointers) {}

 protected:
  Status bind(const Binder& binder, GatherArgs& args) const override {
    args.pointers = pointers_;
    args.lens = LS_TRY(binder.address(spec_, FieldId::seq_lens));
    args.out = bench_.sums();
    args.num_seqs = LS_TRY(binder.scalar_address(spec_, field::num_seqs));
    return {};
  }
  Status run(const GatherArgs& args, const Launcher& on) const override {
    launch(on.stream, kOp, "gather", gather_sum, args, Parts::kOne);
    return {};
  }

 private:
  TensorView pointers_;
};

Status serve(bool move) {
  const auto bench = LS_TRY(Workbench::create(Where{}));
  const TensorView cache =
      LS_TRY(bench->arena().allocate("per-sequence cache", DType::kI32, {kTables, kTokens}));
  std::memcpy(cache.data, bench->values().data, static_cast<size_t>(cache.bytes()));
  const TensorView pointers = LS_TRY(bench->arena().allocate("pointers", DType::kI64, {kSeqs}));
  const int32_t first = LS_TRY(bench->begin(20)), second = LS_TRY(bench->begin(30));
  const PointerAttention attention(*bench, pointers);
  StepPlan plan = LS_TRY(bench->decode({first, second}));
  for (int64_t s = 0; s < 2; ++s) {
    const int64_t row = plan.get(field::table_rows, kPages)[static_cast<size_t>(s)].get();
    pointers.as<int64_t>()[s] = reinterpret_cast<int64_t>(cache.as<int32_t>() + row * kTokens);
  }
  LS_TRY(bench->capture(plan, attention));
  LS_TRY(bench->run(plan, attention));
  if (move) {
    LS_TRY(bench->arena().replace(cache, {kTables, kTokens}));
    std::fill_n(cache.as<int32_t>(), cache.elements(), 700000000);  // of another owner
  }
  plan = LS_TRY(bench->decode({first, second}));
  return bench->run(plan, attention);
}

Status wrong() { return serve(true); }
Status twin() { return serve(false); }

}  // namespace

const Entry kX2 = {
    .id = "X2",
    .fault_class = 'b',
    .title = "invented: what a table of addresses points at is moved",
    .thread = "",
    .expect = {.moment = Moment::kReplay, .check = "R1", .field = "pointers", .found = "replaced"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
