// What recording costs a decode step: one paged and one state group, 16 tokens per page, 60 bindings.
#include <benchmark/benchmark.h>

#include "base/clock.h"
#include "guard/flight_recorder.h"
#include "plan/plan_builder.h"

namespace lockstep {
namespace {

constexpr int32_t kSeqs = 64, kLength = 2048, kPageTokens = 16;
constexpr ConsumerSpec kConsumer{.name = "attend", .ops = {}, .fields = {}};

StepLimits limits() {
  StepLimits limits{.max_rows = 512,
                    .max_seqs = kSeqs,
                    .max_logits_rows = kSeqs,
                    .max_seq_len = kLength,
                    .max_edits = 2 * kSeqs,
                    .max_copies = kSeqs,
                    .vocab_size = 1000,
                    .num_groups = 2};
  limits.groups[0] = {.page_tokens = kPageTokens,
                      .kernel_page_tokens = kPageTokens,
                      .num_pages = kSeqs * kLength / kPageTokens + 1,
                      .table_rows = kSeqs + 1,
                      .max_pages_per_seq = kLength / kPageTokens};
  limits.groups[1] = {.kind = GroupKind::kState, .num_pages = kSeqs + 1};
  return limits;
}

// A decode step in which every sequence begins a page: the most edits that it can have.
StepPlan plan_of(int32_t seqs) {
  PageTables tables(kSeqs + 1, kLength / kPageTokens);
  for (int32_t s = 1; s <= seqs; ++s) tables.append(TableRow(s), PageId(s));
  const std::vector<TokenId> token(1);
  std::vector<SequenceStep> steps(static_cast<size_t>(seqs));
  for (int32_t s = 0; s < seqs; ++s) {
    SequenceStep& step = steps[static_cast<size_t>(s)];
    step = {.tokens = token,
            .computed = TokenCount(3),
            .prompt_len = TokenCount(1),
            .state_slot = StateSlot(s + 1)};
    step.table_rows[0] = TableRow(s + 1);
    step.wants_logits = true;
  }
  StepPlan plan;
  const Status built = PlanBuilder(limits(), {&tables, nullptr})
                           .build({.epoch = Epoch(1),
                                   .sequences = steps,
                                   .bucket = {PaddedRows(seqs), PaddedSeqs(seqs), PaddedRows(seqs)}},
                                  plan);
  LS_CHECK(built.ok(), built.message());
  return plan;
}

void BM_RecordStep(benchmark::State& state) {
  const auto seqs = static_cast<int32_t>(state.range(0));
  const StepPlan plan = plan_of(seqs);
  RecorderOptions options;
  options.rank.limits = limits();
  const int64_t bytes = FlightRecorder::footprint(options);
  FlightRecorder recorder(std::move(options));
  std::vector<Binding> bindings(60, {.consumer = &kConsumer, .name = "field", .elements = seqs});
  const std::vector<uint64_t> ids(static_cast<size_t>(seqs));
  const std::vector<TokenId> tokens(static_cast<size_t>(seqs));
  const std::vector<int32_t> non_finite(static_cast<size_t>(seqs));
  const std::vector<Digest> digests(plan.field_digests().size());
  // Other memory that a step walks through: the ring does not stay in the first caches.
  std::vector<std::byte> others(size_t{4} << 20);
  for (auto _ : state) {
    if (state.range(1) != 0) {
      for (std::byte& byte : others) byte ^= std::byte{1};
      benchmark::ClobberMemory();
    }
    const int64_t start = now_ns();
    recorder.begin({.plan = plan, .sequence_ids = ids});
    recorder.prepared({.run = RunKind::kReplayed, .graph_key = 1, .bindings = bindings});
    recorder.end({.head_epoch = 1, .head = digests, .tail = 7, .tokens = tokens, .non_finite = non_finite});
    state.SetIterationTime(static_cast<double>(now_ns() - start) * 1e-9);
  }
  state.counters["plan_bytes"] = static_cast<double>(plan.image().size());
  state.counters["step_bytes"] =
      static_cast<double>(plan.image().size() + ids.size() * 16 + digests.size() * 16);
  state.counters["ring_bytes"] = static_cast<double>(bytes);
}
BENCHMARK(BM_RecordStep)
    ->ArgNames({"seqs", "cold"})
    ->ArgsProduct({{1, 8, 64}, {0, 1}})
    ->UseManualTime()
    ->MinTime(0.2);

}  // namespace
}  // namespace lockstep
