// A kernel of the step scattered the pages of draft tokens into the page table and did not ask where the
// table ends: the next page of a sequence that has them all is the first page of its neighbour.
// sgl-project/sglang#26532.
#include "faults/consumers.h"
#include "faults/entries.h"
#include "kernels/kv_cache/kv_cache.h"
#include "plan/step_plan.h"

namespace lockstep::faults {
namespace {

constexpr int32_t kDraftPage = 99;

// The edits of the plan, and behind the last page of each sequence one for drafts.
struct ScatterArgs {
  TensorView page_table;  // [R, M] i32
  TensorView edits;       // [N, 3] i32
  TensorView lens;        // [S] i32
  TensorView rows;        // [S] i32
  const int32_t* num_edits = nullptr;
  const LiveSeqs* num_seqs = nullptr;
  int64_t inside_only = 0;
};
constexpr OpArg kArgs[] = {{LS_ARG(ScatterArgs, page_table), .access = Access::kReadWrite, .dims = "RM"},
                           {LS_ARG(ScatterArgs, edits), .dims = "N3"},
                           {LS_ARG(ScatterArgs, lens), .dims = "S"},
                           {LS_ARG(ScatterArgs, rows), .dims = "S"},
                           {LS_ARG(ScatterArgs, num_edits)},
                           {LS_ARG(ScatterArgs, num_seqs)},
                           {LS_ARG(ScatterArgs, inside_only)}};
constexpr OpSpec kOp{.name = "draft_pages", .args = kArgs, .args_bytes = sizeof(ScatterArgs)};
constexpr const OpSpec* kOps[] = {&kOp};
constexpr FieldUse kUses[] = {{.field = FieldId::table_edits, .argument = "draft_pages.edits"},
                              {.field = FieldId::seq_lens, .argument = "draft_pages.lens"},
                              {.field = FieldId::table_rows, .argument = "draft_pages.rows"},
                              {.field = FieldId::num_table_edits, .argument = "draft_pages.num_edits"},
                              {.field = FieldId::num_seqs, .argument = "draft_pages.num_seqs"}};
constexpr ConsumerSpec kSpec{.name = "draft_pages", .ops = kOps, .fields = kUses};

void draft_pages(const ScatterArgs& args, Worker) {
  auto* table = args.page_table.as<int32_t>();
  const int64_t width = args.page_table.stride(0);
  const auto* edits = args.edits.as<const int32_t>();
  for (int32_t i = 0; i < *args.num_edits; ++i)
    table[edits[3 * i] * width + edits[3 * i + 1]] = edits[3 * i + 2];
  for (int32_t s = 0; s < args.num_seqs->get(); ++s) {
    const int64_t next = (args.lens.as<int32_t>()[s] + kPage - 1) / kPage;
    if (args.inside_only != 0 && next >= args.page_table.dim(1)) continue;
    table[args.rows.as<int32_t>()[s] * width + next] = kDraftPage;
  }
}

class DraftPages final : public Consumer<ScatterArgs> {
 public:
  DraftPages(Workbench& bench, const TensorView& table, bool inside_only)
      : Consumer(bench, kSpec), table_(table), inside_only_(inside_only) {}

 protected:
  Status bind(const Binder& binder, ScatterArgs& args) const override {
    args.page_table = table_;
    args.edits = LS_TRY(binder.address(spec_, FieldId::table_edits, kPages));
    args.lens = LS_TRY(binder.address(spec_, FieldId::seq_lens));
    args.rows = LS_TRY(binder.address(spec_, FieldId::table_rows, kPages));
    args.num_edits = LS_TRY(binder.scalar_address(spec_, field::num_table_edits, kPages));
    args.num_seqs = LS_TRY(binder.scalar_address(spec_, field::num_seqs));
    args.inside_only = inside_only_ ? 1 : 0;
    return {};
  }
  Status run(const ScatterArgs& args, const Launcher& on) const override {
    bench_.launch(on, {.spec = &kOp, .stage = "drafts"}, draft_pages, args);
    return {};
  }

 private:
  TensorView table_;
  bool inside_only_;
};

// One sequence fills its row of the table up to the last page; the other's row lies behind it.
Status decode_to_the_end(const Where& where, bool inside_only) {
  const auto bench = LS_TRY(Workbench::create(where));
  const TensorView table =
      LS_TRY(bench->arena().allocate("page table", DType::kI32, {kTables, kTokens / kPage}));
  bench->runner().set_tables({{kPages, table}});
  const DraftPages drafts(*bench, table, inside_only);
  const int32_t next = LS_TRY(bench->begin(0)), full = LS_TRY(bench->begin(0));
  for (int32_t page = 0; page + 1 < kTokens / kPage; ++page) {
    const StepPlan prefill = LS_TRY(bench->step({{full, kPage}, {next, 1}}, 2 * kPage));
    LS_TRY(bench->run_only(prefill, drafts));
  }
  StepPlan plan = LS_TRY(bench->decode({full, next}));
  LS_TRY(bench->capture(plan, drafts));
  return bench->run_only(plan, drafts);
}

Status wrong(const Where& where) { return decode_to_the_end(where, false); }
Status twin(const Where& where) { return decode_to_the_end(where, true); }

}  // namespace

const Entry kI8 = {
    .id = "I8",
    .fault_class = 'i',
    .title = "a kernel scatters pages past the end of a table row, into the next sequence's",
    .thread = "sgl-project/sglang#26532",
    .expect = {.moment = Moment::kCommit, .check = "R6", .field = "table_digests", .row = 1},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
