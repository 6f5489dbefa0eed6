// Field report 3 on the shape that it was met on: Qwen3-30B-A3B's 32 query and 4 key heads of 128, experts
// behind them. A rank holds an early and a late chunk of every sequence; what it attends with is cut in the
// middle of its rows, which is right for one sequence. Right: whole engines on 2, 4 and 8 ranks draw what one
// alone draws, bit for bit, from prompts of odd lengths, some below the number of chunks, some behind a
// cached prefix. sgl-project/sglang#26705.
#include <algorithm>
#include <memory>
#include <vector>

#include "faults/reports/models/entries.h"
#include "faults/reports/models/runs.h"
#include "plan/cp_shares.h"

namespace lockstep::faults {
namespace {

constexpr std::string_view kModel = "tiny-qwen3-moe";
constexpr int32_t kLengths[] = {37, 1, 131, 5, 64, 17, 2, 97};

// What the engines of a mesh plan with, and the plans of a step of all prompts by rank.
struct Ranks {
  StepLimits limits;
  std::unique_ptr<PageTables> pages;
  std::vector<StepPlan> plans;
};

Result<Ranks> plan_prompts(int32_t ranks, int32_t sequences) {
  const MeshShape shape{.cp = ranks};
  const std::unique_ptr<Mesh> mesh = Mesh::without_ranks(shape, 0);
  EngineConfig config = model_config(kModel, 256);
  config.mesh = mesh.get();
  config.parallel = shape;
  const std::unique_ptr<ModelPlan> model = LS_TRY(plan_model(config.model));
  const DecoderSpec& spec = model->model.spec;
  Ranks made{
      .limits = LS_TRY(size_engine(config, spec, DType::kF32, spec.vocab)).limits, .pages = {}, .plans = {}};
  const CacheGroup& group = made.limits.group(kKvGroup);
  made.pages = std::make_unique<PageTables>(group.table_rows, group.max_pages_per_seq);
  std::vector<std::vector<TokenId>> tokens;
  std::vector<SequenceStep> steps;
  int32_t page = 0;
  for (int32_t s = 0; s < sequences; ++s) {
    const int32_t length = kLengths[s];
    tokens.emplace_back(static_cast<size_t>(length));
    for (int32_t p = 0; p * group.page_tokens < length; ++p)
      made.pages->append(TableRow(s + 1), PageId(++page));
    steps.push_back({.tokens = tokens.back(),
                     .last_token_source = TokenSource::literal(),
                     .computed = TokenCount(0),
                     .prompt_len = TokenCount(length),
                     .table_rows = {TableRow(s + 1)},
                     .state_slot = StateSlot(0),
                     .wants_logits = true,
                     .sampling = {}});
  }
  PlanBuilder builder(made.limits, {made.pages.get()});
  made.plans.resize(static_cast<size_t>(ranks));
  for (int32_t rank = 0; rank < ranks; ++rank) {
    LS_TRY(builder.build({.epoch = Epoch(1),
                          .source_epoch = Epoch(0),
                          .sequences = steps,
                          .bucket = bucket_of(made.limits, steps, cp_extent(steps, ranks).rows),
                          .cut = {ranks, rank}},
                         made.plans[static_cast<size_t>(rank)]));
  }
  return made;
}

// The early chunks of all sequences are taken for the first half of the rank's rows.
void cut_in_the_middle(StepPlan& plan) {
  const auto segments = plan.edit(field::cp_segments);
  const int32_t sequences = plan.scalar(field::num_seqs).get() / 2;
  int32_t early = plan.scalar(field::num_rows).get() / 2;
  for (int32_t s = 0; s < sequences; ++s) {
    CpSegments own = segments[static_cast<size_t>(s)];
    const int32_t rows = own.prev.length.get() + own.next.length.get();
    const int32_t prev = std::min(own.prev.length.get(), early);
    own.prev.length = RowCount(prev);
    own.next.length = RowCount(rows - prev);
    early -= prev;
    segments[static_cast<size_t>(s)] = segments[static_cast<size_t>(s + sequences)] = own;
  }
}

Status plan_and_check(int32_t ranks, int32_t sequences, bool in_the_middle) {
  Ranks made = LS_TRY(plan_prompts(ranks, sequences));
  for (StepPlan& plan : made.plans) {
    if (in_the_middle) cut_in_the_middle(plan);
    plan.freeze();
    PlanValidator validator(made.limits);
    LS_TRY(validator.validate(plan));
  }
  return check_cp_plans(made.plans);
}

Status wrong() {
  Status last;
  for (const int32_t ranks : {8, 4, 2}) {
    for (int32_t sequences = 8; sequences >= 2; --sequences) {
      last = plan_and_check(ranks, sequences, true);
      LS_TRY(must_say({.moment = Moment::kPlan, .check = "P9", .field = "cp_segments"}, last));
    }
  }
  return last;
}

Status run_batches(std::span<const size_t> sizes, std::span<const int32_t> degrees) {
  std::vector<Request> requests;
  for (uint64_t s = 0; s < std::size(kLengths); ++s)
    requests.push_back(model_request(s, kLengths[s], 4, 512));
  for (const size_t size : sizes) {
    const std::span<const Request> batch = std::span(requests).last(size);
    const ModelOutcome alone = LS_TRY(run_model(model_config(kModel, 256), {}, batch));
    for (const int32_t ranks : degrees) {
      LS_TRY(plan_and_check(ranks, static_cast<int32_t>(size), false));
      const ModelOutcome shared = LS_TRY(run_model(model_config(kModel, 256), {.cp = ranks}, batch));
      LS_TRY(expect_same(alone, shared, true));
      if (shared.cut_steps == 0 || shared.replays == 0)
        return error(Code::kInternal, ranks, " ranks shared ", shared.cut_steps, " steps and replayed ",
                     shared.replays, "; expected some of both");
    }
  }
  return {};
}

Status twin() {
  constexpr size_t kSizes[] = {3};
  constexpr int32_t kDegrees[] = {2, 4};
  return run_batches(kSizes, kDegrees);
}

}  // namespace

Status report3_in_full() {
  constexpr size_t kSizes[] = {1, 2, 3, 5, 8};
  constexpr int32_t kDegrees[] = {2, 4, 8};
  return run_batches(kSizes, kDegrees);
}

const Entry kReport3Model = {
    .id = "report/3/qwen3_moe",
    .fault_class = 'r',
    .title = "the same on Qwen3-MoE's shape: 32 and 4 heads, 2, 4 and 8 ranks",
    .thread = "sgl-project/sglang#26705",
    .expect = {.moment = Moment::kPlan, .check = "P9", .field = "cp_segments"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
