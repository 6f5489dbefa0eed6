// Plans of context-parallel ranks, built from one request: together they are the step, each token once.
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <tuple>

#include "plan/cp_shares.h"
#include "plan/plan_builder.h"
#include "plan/validate.h"
#include "plan/validate/simulation.h"

namespace lockstep {
namespace {

constexpr int32_t kPageTokens = 16;
constexpr int32_t kLongest = 1000;
constexpr int32_t kPagesEach = kLongest / kPageTokens + 1;
constexpr int32_t kSequences = 8;

StepLimits limits_for(int32_t ranks) {
  StepLimits limits{.max_rows = 2 * kSequences * kLongest,
                    .max_seqs = 16 * kSequences,
                    .max_logits_rows = kSequences,
                    .max_seq_len = kLongest,
                    .max_edits = 2 * kSequences * kPagesEach,
                    .vocab_size = 1 << 20,
                    .cp_ranks = ranks,
                    .num_groups = 2};
  limits.groups[0] = {.page_tokens = kPageTokens,
                      .kernel_page_tokens = kPageTokens,
                      .num_pages = kSequences * kPagesEach + 1,
                      .table_rows = kSequences + 1,
                      .max_pages_per_seq = kPagesEach};
  limits.groups[1] = {.kind = GroupKind::kState, .num_pages = kSequences + 1};
  return limits;
}

// Sequences whose rows come in chunks of random sizes; a token's id says whose it is and where it stands.
class Prompts {
 public:
  Prompts(int32_t ranks, std::vector<int32_t> lengths, uint64_t seed)
      : limits_(limits_for(ranks)),
        lengths_(std::move(lengths)),
        computed_(lengths_.size()),
        rows_(lengths_.size()),
        tables_(limits_.groups[0].table_rows, kPagesEach),
        builder_(limits_, {&tables_, nullptr}),
        plans_(static_cast<size_t>(ranks)),
        random_(seed) {
    for (size_t s = 0; s < lengths_.size(); ++s) {
      tokens_.emplace_back();
      for (int32_t i = 0; i < lengths_[s]; ++i) tokens_[s].emplace_back(id(s, i));
      for (int32_t p = 0; p < kPagesEach; ++p)
        tables_.append(TableRow(s + 1), PageId(1 + static_cast<int32_t>(s) * kPagesEach + p));
    }
    for (int32_t rank = 0; rank < ranks; ++rank) validators_.emplace_back(limits_);
  }

  static int32_t id(size_t s, int32_t position) {
    return static_cast<int32_t>(s) * (kLongest + 1) + position;
  }
  bool done() const { return computed_ == lengths_; }
  const StepPlan& plan(size_t rank) const { return plans_[rank]; }
  const std::vector<StepPlan>& plans() const { return plans_; }
  size_t sequences() const { return lengths_.size(); }
  int32_t computed(size_t s) const { return computed_[s]; }
  int32_t rows(size_t s) const { return rows_[s]; }

  // Builds and validates the plans of all ranks for the next rows of each sequence.
  std::string next() {
    for (size_t s = 0; s < lengths_.size(); ++s) {
      computed_[s] += rows_[s];
      const int32_t left = lengths_[s] - computed_[s];
      rows_[s] = std::min(left, static_cast<int32_t>(random_() % (random_() % 2 == 0 ? 9 : kLongest)));
    }
    std::vector<SequenceStep> steps;
    for (size_t s = 0; s < lengths_.size(); ++s) {
      steps.push_back(
          {.tokens = std::span(tokens_[s])
                         .subspan(static_cast<size_t>(computed_[s]), static_cast<size_t>(rows_[s])),
           .last_token_source = TokenSource::literal(),
           .computed = TokenCount(computed_[s]),
           .prompt_len = TokenCount(std::max(lengths_[s], 1)),
           .table_rows = {TableRow(s + 1)},
           .state_slot = StateSlot(s + 1),
           .wants_logits = rows_[s] > 0 && computed_[s] + rows_[s] == lengths_[s],
           .sampling = {}});
    }
    const auto ranks = static_cast<int32_t>(plans_.size());
    // The least one, or one with room.
    Bucket bucket = bucket_of(limits_, steps, cp_extent(steps, ranks).rows);
    if (random_() % 2 == 0) {
      bucket = {PaddedRows(bucket.rows.get() + static_cast<int32_t>(random_() % 20)),
                PaddedSeqs(limits_.max_seqs), PaddedRows(kSequences)};
    }
    ++epoch_;
    for (int32_t rank = 0; rank < ranks; ++rank) {
      StepRequest request{.epoch = Epoch(epoch_),
                          .source_epoch = Epoch(0),
                          .sequences = steps,
                          .bucket = bucket,
                          .cut = {ranks, rank}};
      StepPlan& plan = plans_[static_cast<size_t>(rank)];
      if (const Status built = builder_.build(request, plan); !built.ok()) return built.message();
      const Status valid = validators_[static_cast<size_t>(rank)].validate(plan);
      if (!valid.ok()) return concat("rank ", rank, ": ", valid.message());
    }
    builder_.accepted();
    return check_cp_plans(plans_).message();
  }

 private:
  StepLimits limits_;
  std::vector<int32_t> lengths_, computed_, rows_;
  std::vector<std::vector<TokenId>> tokens_;
  PageTables tables_;
  PlanBuilder builder_;
  std::vector<StepPlan> plans_;
  std::vector<PlanValidator> validators_;
  std::mt19937_64 random_;
  uint64_t epoch_ = 0;
};

// Every token of the step in one row of one rank; each rank's slots where all ranks look for them.
void expect_each_token_once(const Prompts& prompts) {
  std::map<int32_t, int> owners;  // by token id
  const bool cut = prompts.plan(0).scalar(field::cp_ranks) > 1;
  const size_t ranks = cut ? prompts.plans().size() : 1;
  for (size_t rank = 0; rank < ranks; ++rank) {
    const StepPlan& plan = prompts.plan(rank);
    const auto rows = static_cast<size_t>(plan.scalar(field::num_rows).get());
    for (size_t row = 0; row < rows; ++row) {
      const int32_t id = plan.get(field::token_ids)[row].get();
      ASSERT_EQ(plan.get(field::positions)[row].get(), id % (kLongest + 1));
      ++owners[id];
    }
    if (!cut) continue;
    const auto own = plan.get(field::slot_mapping);
    const auto all = plan.get(field::cp_slot_mapping);
    for (size_t other = 0; other < ranks; ++other) {
      const auto theirs = prompts.plan(other).get(field::slot_mapping);
      ASSERT_TRUE(
          std::equal(theirs.begin(), theirs.end(), all.begin() + static_cast<int64_t>(other * own.size())));
    }
  }
  size_t tokens = 0;
  for (size_t s = 0; s < prompts.sequences(); ++s) {
    for (int32_t i = 0; i < prompts.rows(s); ++i, ++tokens)
      ASSERT_EQ(owners[Prompts::id(s, prompts.computed(s) + i)], 1) << "sequence " << s << " row " << i;
  }
  ASSERT_EQ(owners.size(), tokens);
}

// The row that a logits row names, on the rank that it names, is the last one of its sequence.
void expect_logits_rows(const Prompts& prompts) {
  const StepPlan& plan = prompts.plan(0);
  const bool cut = plan.scalar(field::cp_ranks) > 1;
  size_t r = 0;
  for (size_t s = 0; s < prompts.sequences(); ++s) {
    if (r == static_cast<size_t>(plan.scalar(field::num_logits_rows).get())) return;
    const int32_t end = prompts.computed(s) + prompts.rows(s);
    if (plan.get(field::sample_positions)[r].get() != end || prompts.rows(s) == 0) continue;
    const auto place = plan.get(field::cp_logits_rows)[r].get();
    const StepPlan& owner =
        prompts.plan(cut ? static_cast<size_t>(place / plan.bucket().logits_rows.get()) : 0);
    const auto row = static_cast<size_t>(plan.get(field::logits_rows)[r].get());
    const int32_t id = owner.get(field::token_ids)[row].get();
    if (id != Prompts::id(s, end - 1)) continue;  // another sequence of that length
    ++r;
  }
  ASSERT_EQ(r, static_cast<size_t>(plan.scalar(field::num_logits_rows).get()));
}

// What G1 lets ranks that share a step differ in is what differs.
void expect_the_same_but_for_own_rows(const Prompts& prompts) {
  for (const StepPlan& plan : prompts.plans()) {
    for (const ImageLayout::FieldPlace& place : plan.layout().fields()) {
      if (info_of(place.field).share == Share::kOwn) continue;
      ASSERT_EQ(plan.field_digest(place.field, place.group),
                prompts.plan(0).field_digest(place.field, place.group))
          << name_of(place.field);
    }
  }
}

std::vector<int32_t> random_lengths(uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<int32_t> lengths;
  for (uint64_t s = 0; s <= random() % kSequences; ++s)
    lengths.push_back(static_cast<int32_t>(random() % (random() % 3 == 0 ? 12 : kLongest + 1)));
  return lengths;
}

TEST(CpPlans, OfAllRanksAreTheStepEachTokenOnce) {
  int cuts = 0, prefixes = 0, tiny = 0;
  for (int32_t ranks = 1; ranks <= 8; ++ranks) {
    for (uint64_t seed = 1; seed <= 25; ++seed) {
      SCOPED_TRACE(concat("ranks ", ranks, " seed ", seed));
      Prompts prompts(ranks, random_lengths(seed * 8 + static_cast<uint64_t>(ranks)), seed);
      for (int step = 0; step < 12 && !prompts.done(); ++step) {
        ASSERT_EQ(prompts.next(), "");
        expect_each_token_once(prompts);
        expect_logits_rows(prompts);
        expect_the_same_but_for_own_rows(prompts);
        if (HasFatalFailure()) return;
        cuts += prompts.plan(0).scalar(field::cp_ranks) > 1;
        prefixes += prompts.computed(0) > 0 && prompts.rows(0) > 0;
        tiny += prompts.rows(0) > 0 && prompts.rows(0) < 2 * ranks;
      }
    }
  }
  for (const int reached : {cuts, prefixes, tiny}) EXPECT_GT(reached, 100);
}

TEST(CpPlans, OfRandomStepsAreValidOnEveryRankAndTogether) {
  int cut = 0, whole = 0;
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    const int32_t ranks = 2 + static_cast<int32_t>(seed % 7);
    SCOPED_TRACE(concat("seed ", seed, ", ", ranks, " ranks"));
    Simulation simulation(seed, ranks);
    std::vector<PlanValidator> validators;
    for (int32_t rank = 0; rank < ranks; ++rank) validators.emplace_back(simulation.limits());
    std::vector<StepPlan> plans;
    for (int i = 0; i < 60; ++i) {
      const Status built = simulation.next(plans);
      ASSERT_TRUE(built.ok()) << built.message();
      for (size_t rank = 0; rank < plans.size(); ++rank)
        ASSERT_EQ(validators[rank].validate(plans[rank]).message(), "") << "rank " << rank;
      ASSERT_EQ(check_cp_plans(plans).message(), "");
      (plans[0].scalar(field::cp_ranks) > 1 ? cut : whole) += 1;
    }
  }
  EXPECT_GT(cut, 500);
  EXPECT_GT(whole, 500);
}

TEST(CpPlans, AreTheSameBytesWhereNothingIsShared) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    Simulation simulation(seed, 4);
    std::vector<StepPlan> plans;
    for (int i = 0; i < 40; ++i) {
      ASSERT_TRUE(simulation.next(plans).ok());
      if (plans[0].scalar(field::cp_ranks) > 1) continue;
      for (const StepPlan& plan : plans) ASSERT_EQ(plan.digest(), plans[0].digest());
    }
  }
}

TEST(CpPlans, InAnotherRanksPlaceAreNamed) {
  Prompts prompts(2, {700, 5}, 3);
  ASSERT_EQ(prompts.next(), "");
  ASSERT_GT(prompts.plan(0).scalar(field::cp_ranks), 1);
  const std::vector<StepPlan> swapped = {prompts.plan(1), prompts.plan(0)};
  EXPECT_EQ(check_cp_plans(swapped).message(), "step 1: P9 cp_rank is 1 in rank 0; expected 0");
}

TEST(CpPlans, OfTwoStepsAreNamed) {
  Prompts prompts(2, {1000, 1000}, 5);
  ASSERT_EQ(prompts.next(), "");
  std::vector<StepPlan> mixed = prompts.plans();
  ASSERT_EQ(prompts.next(), "");
  ASSERT_GT(prompts.plan(1).scalar(field::cp_ranks), 1);
  mixed[1] = prompts.plan(1);
  EXPECT_NE(check_cp_plans(mixed).message().find("P9 cp_segments[0]"), std::string::npos)
      << check_cp_plans(mixed).message();
}

TEST(PlanBuilder, RefusesACutForARankThatThereIsNot) {
  const StepLimits limits = limits_for(2);
  PageTables tables(limits.groups[0].table_rows, kPagesEach);
  PlanBuilder builder(limits, {&tables, nullptr});
  StepPlan plan;
  const Bucket bucket{PaddedRows(4), PaddedSeqs(4), PaddedRows(0)};
  EXPECT_EQ(builder.build({.epoch = Epoch(1), .bucket = bucket, .cut = {4, 0}}, plan).message(),
            "plan 1: cut for rank 0 of 4; expected a rank of 1 or of cp_ranks = 2");
  EXPECT_EQ(builder.build({.epoch = Epoch(1), .bucket = bucket, .cut = {2, 2}}, plan).message(),
            "plan 1: cut for rank 2 of 2; expected a rank of 1 or of cp_ranks = 2");
}

}  // namespace
}  // namespace lockstep
