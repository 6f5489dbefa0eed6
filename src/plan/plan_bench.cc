// What a plan costs the host: build alone, and build with validation, for steps of a hybrid model (one paged
// group of 16 tokens per page, one state group).
#include <benchmark/benchmark.h>

#include <algorithm>

#include "base/math.h"
#include "plan/plan_builder.h"
#include "plan/validate.h"

namespace lockstep {
namespace {

constexpr int32_t kPageTokens = 16;
constexpr int32_t kChunk = 512;          // rows in which sequences come to where they begin
constexpr int32_t kStepsBetween = 1024;  // steps until the sequences begin again

// `seqs` sequences that have `computed` tokens behind them and `rows` rows in each step.
class Steps {
 public:
  Steps(int32_t seqs, int32_t computed, int32_t rows)
      : rows_(rows),
        computed_(computed),
        limits_(limits_for(seqs, computed, rows)),
        tables_(seqs + 1, limits_.groups[0].max_pages_per_seq),
        builder_(limits_, {&tables_, nullptr}),
        validator_(limits_),
        tokens_(static_cast<size_t>(rows)),
        steps_(static_cast<size_t>(seqs)) {
    for (int32_t s = 0; s < seqs; ++s) {
      SequenceStep& step = steps_[static_cast<size_t>(s)];
      step = {.tokens = tokens_,
              .prompt_len = TokenCount(1),
              .state_slot = StateSlot(s + 1),
              .wants_logits = true};
      step.table_rows[0] = TableRow(s + 1);
    }
    restart();
  }

  bool at_end() const { return computed_ + rows_ > limits_.max_seq_len; }
  // Brings the sequences back to where they began, with tables and a validator of their own.
  void restart();
  // The step after the one before: lengths grow, and sequences begin pages where they have to.
  void build() {
    for (SequenceStep& step : steps_) {
      step.computed = TokenCount(computed_);
      extend(step, computed_ + rows_);
    }
    computed_ += rows_;
    const auto seqs = static_cast<int32_t>(steps_.size());
    run(steps_,
        {.rows = PaddedRows(seqs * rows_), .seqs = PaddedSeqs(seqs), .logits_rows = PaddedRows(seqs)});
  }
  void validate() {
    const Violation* violation = validator_.check(plan_);
    LS_CHECK(violation == nullptr, describe(*violation, Epoch(epoch_)));
  }

 private:
  static StepLimits limits_for(int32_t seqs, int32_t computed, int32_t rows) {
    const int32_t longest = computed + kStepsBetween * rows;
    const int32_t pages = ceil_div(longest, kPageTokens);
    StepLimits limits{
        .max_rows = std::max(seqs * rows, kChunk),
        .max_seqs = seqs,
        .max_logits_rows = seqs,
        .max_seq_len = longest,
        .max_edits = std::max(seqs * (ceil_div(rows, kPageTokens) + 1), kChunk / kPageTokens) + 1,
        .max_copies = seqs,
        .vocab_size = 1000,
        .num_groups = 2};
    limits.groups[0] = {.page_tokens = kPageTokens,
                        .kernel_page_tokens = kPageTokens,
                        .num_pages = seqs * pages + 1,
                        .table_rows = seqs + 1,
                        .max_pages_per_seq = pages};
    limits.groups[1] = {.kind = GroupKind::kState, .num_pages = seqs + 1};
    return limits;
  }
  void extend(const SequenceStep& step, int32_t tokens) {
    const TableRow row = step.table_rows[0];
    const int32_t first = (row.get() - 1) * limits_.groups[0].max_pages_per_seq + 1;
    for (auto page = static_cast<int32_t>(tables_.pages(row).size()); page * kPageTokens < tokens; ++page)
      tables_.append(row, PageId(first + page));
  }
  void run(std::span<const SequenceStep> steps, const Bucket& bucket) {
    const Status built =
        builder_.build({.epoch = Epoch(++epoch_), .sequences = steps, .bucket = bucket}, plan_);
    LS_CHECK(built.ok(), built.message());
    builder_.accepted();
  }

  int32_t rows_;
  int32_t computed_;
  StepLimits limits_;
  PageTables tables_;
  PlanBuilder builder_;
  PlanValidator validator_;
  std::vector<TokenId> tokens_;
  std::vector<SequenceStep> steps_;
  StepPlan plan_;
  uint64_t epoch_ = 0;
};

void Steps::restart() {
  computed_ = limits_.max_seq_len - kStepsBetween * rows_;
  tables_ = PageTables(limits_.groups[0].table_rows, limits_.groups[0].max_pages_per_seq);
  validator_ = PlanValidator(limits_);
  const std::vector<TokenId> tokens(kChunk);
  for (SequenceStep step : steps_) {
    for (int32_t done = 0; done < computed_;) {
      const int32_t rows = std::min(kChunk, computed_ - done);
      step.tokens = std::span(tokens).first(static_cast<size_t>(rows));
      step.computed = TokenCount(done);
      step.wants_logits = false;
      extend(step, done + rows);
      run({&step, 1}, {.rows = PaddedRows(rows), .seqs = PaddedSeqs(1), .logits_rows = PaddedRows(0)});
      validate();
      done += rows;
    }
  }
}

void arguments(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"seqs", "computed", "rows"})->Unit(benchmark::kMicrosecond);
  for (const int64_t seqs : {1, 8, 64, 256}) bench->Args({seqs, 1000, 1});
  bench->Args({64, 30000, 1});  // costs what 1000 costs: no page of a sequence is looked at twice
  bench->Args({4, 1000, 512});
}

template <typename Step>
void run(benchmark::State& state, Step step) {
  Steps steps(static_cast<int32_t>(state.range(0)), static_cast<int32_t>(state.range(1)),
              static_cast<int32_t>(state.range(2)));
  for (auto _ : state) {
    if (steps.at_end()) {
      state.PauseTiming();
      steps.restart();
      state.ResumeTiming();
    }
    step(steps);
  }
}

void build_only(benchmark::State& state) {
  run(state, [](Steps& steps) { steps.build(); });
}

void build_and_validate(benchmark::State& state) {
  run(state, [](Steps& steps) {
    steps.build();
    steps.validate();
  });
}

BENCHMARK(build_only)->Apply(arguments);
BENCHMARK(build_and_validate)->Apply(arguments);

}  // namespace
}  // namespace lockstep
