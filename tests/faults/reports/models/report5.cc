// Field report 5 on the shape that it was met on: MiniCPM-SALA's 32 query and 2 key heads, 96 blocks of 64
// keys per list, so K = 6144; graphs of 1, 2, 4, 8 and 16 sequences captured in a row. Wrong: the selection
// writes its sums to the plan's memory, which the next step is planned from. Right: the engine's own backend
// through 20,000 replays with changing batches; after each the plan on the device is the plan, and every list
// is what its row may choose. Thinned: heads of 8 instead of 128, and on the CPU nobody attends, for choosing
// is what the report is about. OpenBMB SGLang fork, branch minicpm_sala, PR 2 and 3.
#include <algorithm>
#include <array>

#include "attention/sparse/sparse_backend.h"
#include "conformance/attention_rig.h"
#include "contract/selected_blocks.h"
#include "faults/reports/models/entries.h"
#include "kernels/block_selection/block_selection.h"
#include "kernels/table.h"

namespace lockstep::faults {
namespace {

using conformance::AttentionOptions;
using conformance::AttentionRig;
using conformance::Mode;

constexpr int32_t kHeads = 32, kKvHeads = 2, kHeadDim = 8, kBlock = 64;
constexpr conformance::BlockRule kRule{.init = 1, .window = 32, .most = 96, .dense_len = 0};
constexpr int32_t kChunk = 64;                               // rows of a prompt's step
constexpr int32_t kShortest = kRule.most * kBlock + kBlock;  // a choice leaves something out

// How long it takes: sizes of graphs, sequences, replays.
struct Scale {
  std::span<const int32_t> sizes;
  int32_t sequences = 0;
  int32_t replays = 0;
  int32_t max_len = 0;
};

AttentionOptions options_of(const Scale& scale) {
  const auto fields = selected_block_fields();
  AttentionOptions options{.page_tokens = 64, .heads = kHeads, .kv_heads = kKvHeads, .head_dim = kHeadDim};
  options.max_seqs = 2 * std::max(scale.sequences, 1);
  options.max_rows = kChunk;
  options.max_seq_len = scale.max_len;
  options.num_pages = scale.sequences * (scale.max_len / options.page_tokens) + 2;
  options.derived = {fields.begin(), fields.end()};
  options.blocks = kRule;
  return options;
}

SparseOptions sparse_of(const AttentionOptions& options) {
  return {.init_blocks = kRule.init,
          .window_blocks = kRule.window,
          .most_blocks = kRule.most,
          .dense_len = kRule.dense_len,
          .max_tokens = options.max_seq_len,
          .compressed = conformance::kCompressedPages};
}

void attend_to_nothing(const SparseAttentionArgs& args, Worker worker) {
  if (worker.index != 0) return;
  std::fill_n(args.out.as<float>(), args.out.elements(), 0.0f);
}

// The engine's backend; on the CPU without its last kernel, which takes long there.
class Choosing final : public AttentionBackend {
 public:
  Choosing(const CacheStorage& storage, const SparseOptions& options) : sparse_(storage, options) {}
  const ConsumerSpec& spec() const override { return sparse_.spec(); }
  int64_t workspace_bytes(int threads, int32_t heads, int32_t kv_heads, int32_t head_dim) const override {
    return sparse_.workspace_bytes(threads, heads, kv_heads, head_dim);
  }
  Status prepare(const Binder& binder, GroupId group, PreparedStep& step) const override {
    return sparse_.prepare(binder, group, step);
  }
  Status run(const PreparedStep& step, GroupId group, const AttentionTensors& tensors, int32_t layer,
             const Launcher& on) const override {
    KernelTable table = on.table;
    if (on.stream.device() == nullptr) table.sparse_attention = attend_to_nothing;
    return sparse_.run(step, group, tensors, layer, {table, on.stream});
  }

 private:
  SparseBackend sparse_;
};

constexpr const OpSpec* kOps[] = {&kSelectBlocksSpec};
constexpr FieldUse kUses[] = {{.field = FieldId::table_rows, .argument = "*.table_rows"},
                              {.field = FieldId::query_start_loc, .argument = "*.query_start_loc"},
                              {.field = FieldId::query_start_loc, .argument = "*.starts"},
                              {.field = FieldId::seq_lens, .argument = "*.seq_lens"},
                              {.field = FieldId::prompt_lens, .argument = "*.prompt_lens"},
                              {.field = FieldId::num_rows, .argument = "*.num_rows"},
                              {.field = FieldId::num_seqs, .argument = "*.num_seqs"}};
constexpr const DerivedSpec* kDerives[] = {&kSelectedCounts, &kSelectedBlocks};
constexpr ConsumerSpec kWrong{.name = "sums_in_the_plan", .ops = kOps, .fields = kUses, .derives = kDerives};

struct WrongLaunch {
  TensorView table_rows, query_start_loc, seq_lens, prompt_lens, counts, blocks;
  const LiveRows* num_rows = nullptr;
  const LiveSeqs* num_seqs = nullptr;
};

// Selects into the buffer that it was planned from.
class SumsInThePlan final : public AttentionBackend {
 public:
  SumsInThePlan(const CacheStorage& storage, const SparseOptions& options)
      : storage_(storage), options_(options) {}
  const ConsumerSpec& spec() const override { return kWrong; }
  int64_t workspace_bytes(int threads, int32_t /*heads*/, int32_t /*kv_heads*/,
                          int32_t head_dim) const override {
    return select_blocks_workspace_bytes(threads, head_dim, options_.max_tokens);
  }
  Status prepare(const Binder& binder, GroupId group, PreparedStep& step) const override {
    WrongLaunch& args = step.add<WrongLaunch>(kWrong, group);
    args.table_rows = LS_TRY(binder.address(kWrong, FieldId::table_rows, options_.compressed));
    args.query_start_loc = LS_TRY(binder.address(kWrong, FieldId::query_start_loc));
    args.seq_lens = LS_TRY(binder.address(kWrong, FieldId::seq_lens));
    args.prompt_lens = LS_TRY(binder.address(kWrong, FieldId::prompt_lens));
    args.num_rows = LS_TRY(binder.scalar_address(kWrong, field::num_rows));
    args.num_seqs = LS_TRY(binder.scalar_address(kWrong, field::num_seqs));
    args.counts = LS_TRY(binder.derive_on_device(kWrong, kSelectedCounts));
    args.blocks = LS_TRY(binder.derive_on_device(kWrong, kSelectedBlocks));
    return {};
  }
  Status run(const PreparedStep& step, GroupId group, const AttentionTensors& tensors, int32_t layer,
             const Launcher& on) const override {
    const WrongLaunch& bound = *LS_TRY(step.get<WrongLaunch>(kWrong, group));
    const int64_t lists = tensors.q.dim(0) * kKvHeads;
    return select_blocks(on,
                         {.q = tensors.q,
                          .k1 = storage_.compressed(layer).k1,
                          .k2 = storage_.compressed(layer).k2,
                          .page_table = storage_.compressed_table(),
                          .table_rows = bound.table_rows,
                          .query_start_loc = bound.query_start_loc,
                          .seq_lens = bound.seq_lens,
                          .prompt_lens = bound.prompt_lens,
                          .counts = bound.counts.rows(0, lists),
                          .starts = bound.query_start_loc.rows(0, lists + 1),
                          .blocks = bound.blocks.rows(0, lists * options_.most_blocks),
                          .workspace = tensors.workspace,
                          .num_rows = bound.num_rows,
                          .num_seqs = bound.num_seqs,
                          .init_blocks = options_.init_blocks,
                          .window_blocks = options_.window_blocks,
                          .most_blocks = options_.most_blocks,
                          .scale = tensors.scale},
                         "select_blocks");
  }

 private:
  const CacheStorage& storage_;
  SparseOptions options_;
};

template <typename Backend>
conformance::AttentionCandidate candidate(const Where& where, const AttentionOptions& options) {
  return {.name = "sala",
          .make = [sparse = sparse_of(options)](
                      const CacheStorage& storage) -> Result<std::unique_ptr<AttentionBackend>> {
            return std::unique_ptr<AttentionBackend>(std::make_unique<Backend>(storage, sparse));
          },
          .device = where.device};
}

// Entries of a derived field as the last step has left them.
Result<std::vector<int32_t>> entries(AttentionRig& rig, const DerivedSpec& spec, int64_t count) {
  const DerivedFields::Entry* entry = rig.rig().runner().derived().find(spec);
  if (entry == nullptr)
    return error(Code::kInternal, spec.name, " is nowhere; expected the runner to have it");
  std::vector<int32_t> values(static_cast<size_t>(count));
  HostView(rig.rig().stream()).read(entry->values.data, values.data(), std::ssize(values) * 4);
  return values;
}

// 96 blocks: the first one, the row's own and the 32 before it, and none behind.
Status check_list(std::span<const int32_t> list, int32_t own) {
  const bool first = list.front() == 0,
             ascending = std::ranges::adjacent_find(list, std::greater_equal()) == list.end();
  const bool local = list[list.size() - 33] == own - 32 && list.back() == own;
  if (first && ascending && local) return {};
  return error(Code::kInternal, "a row in block ", own, " has a list from ", list.front(), " to ",
               list.back(), ", with ", list[list.size() - 33], " in 33rd place from its end; expected 0, ",
               own, " and ", own - 32);
}

Status check_lists(AttentionRig& rig, std::span<const int32_t> batch) {
  const auto lists = static_cast<int64_t>(batch.size()) * kKvHeads;
  const std::vector<int32_t> starts = LS_TRY(entries(rig, kSelectedStarts, lists + 1));
  const std::vector<int32_t> listed = LS_TRY(entries(rig, kSelectedBlocks, lists * kRule.most));
  const std::span<const int32_t> blocks(listed);
  for (int64_t i = 0; i < lists; ++i) {
    const auto at = static_cast<size_t>(i);
    if (starts[at] != i * kRule.most || starts[at + 1] != (i + 1) * kRule.most)
      return error(Code::kInternal, "list ", i, " is ", starts[at], "..", starts[at + 1], "; expected ",
                   kRule.most, " blocks in each");
    const int32_t length = rig.planner().length(batch[at / kKvHeads]);
    LS_TRY(check_list(blocks.subspan(at * static_cast<size_t>(kRule.most), static_cast<size_t>(kRule.most)),
                      (length - 1) / kBlock));
  }
  return {};
}

Status replay(const Where& where, const Scale& scale) {
  const AttentionOptions options = options_of(scale);
  const auto rig = LS_TRY(AttentionRig::create(candidate<Choosing>(where, options), options));
  std::vector<int32_t> all;
  for (int32_t s = 0; s < scale.sequences; ++s) {
    all.push_back(rig->begin());
    conformance::RigStep step = conformance::prefill_step(all.back(), kChunk);
    step.compare = false;
    for (int32_t done = 0; done < kShortest + kChunk * (s % 5); done += kChunk) LS_TRY(rig->step(step));
  }
  for (int32_t done = 0; done < scale.replays; ++done) {
    const auto size = static_cast<size_t>(scale.sizes[static_cast<size_t>(done) % scale.sizes.size()]);
    std::ranges::rotate(all, all.begin() + 1 + done % 3 % std::ssize(all));
    // Sometimes the graph has more room than there are sequences.
    const size_t live = size > 2 && done % 7 == 0 ? size - 1 : size;
    const std::span<const int32_t> batch = std::span(all).first(live);
    LS_TRY(rig->decode(batch, static_cast<int32_t>(size), Mode::kGraph, false));
    LS_TRY(check_lists(*rig, batch));
  }
  const StepRunner& runner = rig->rig().runner();
  if (runner.replays() == scale.replays && runner.graphs() == scale.sizes.size()) return {};
  return error(Code::kInternal, runner.replays(), " replays of ", runner.graphs(), " graphs; expected ",
               scale.replays, " of ", scale.sizes.size());
}

Status wrong(const Where& where) {
  const AttentionOptions options = options_of({.sizes = {}, .sequences = 4, .replays = 0, .max_len = 512});
  const auto rig = LS_TRY(AttentionRig::create(candidate<SumsInThePlan>(where, options), options));
  const int32_t both[] = {rig->begin(), rig->begin()};
  conformance::RigStep step = conformance::decode_step(both, 2, Mode::kGraph, false);
  step.bucket.seqs = PaddedSeqs(4);  // room for the sums of two heads
  return rig->step(step);
}

Status twin(const Where& where) {
  constexpr int32_t kSizes[] = {1, 2};
  return replay(where, {.sizes = kSizes, .sequences = 2, .replays = 200, .max_len = 6656 + 256});
}

}  // namespace

Status report5_in_full(const Where& where) {
  constexpr int32_t kSizes[] = {1, 2, 4, 8, 16};
  return replay(where, {.sizes = kSizes, .sequences = 16, .replays = 20000, .max_len = 16384});
}

const Entry kReport5Model = {
    .id = "report/5/minicpm_sala",
    .fault_class = 'r',
    .title = "the same on MiniCPM-SALA's shape: 96 blocks of 64 keys, batches of 1 to 16, 20,000 replays",
    .thread = "OpenBMB SGLang fork, minicpm_sala#2",
    .expect = {.moment = Moment::kCapture,
               .check = "L4",
               .field = "starts",
               .consumer = "select_blocks (select_blocks, layer 0)",
               .expected = "no launch to write to the plan",
               .found = "the plan's query_start_loc"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
