#include <gtest/gtest.h>

#include "plan/validate.h"
#include "plan/validate/simulation.h"

namespace lockstep {
namespace {

constexpr int kSimulations = 100;
constexpr int kPlans = 100;  // of each

// Page tables as a device keeps them: entries change by edits and by nothing else.
class DeviceTables {
 public:
  explicit DeviceTables(const StepLimits& limits) {
    for (int32_t g = 0; g < limits.num_groups; ++g) {
      const CacheGroup& group = limits.group(GroupId(g));
      tables_.emplace_back(static_cast<size_t>(group.table_rows * group.max_pages_per_seq), PageId(-7));
      widths_.push_back(group.max_pages_per_seq);
    }
  }
  void apply(const StepPlan& plan, int32_t g) {
    const auto edits = plan.get(field::table_edits, GroupId(g));
    for (int32_t e = 0; e < plan.scalar(field::num_table_edits, GroupId(g)); ++e) {
      const TableEdit& edit = edits[static_cast<size_t>(e)];
      at(g, edit.row, edit.index) = edit.page;
    }
  }
  PageId& at(int32_t g, TableRow row, int32_t index) {
    return tables_[static_cast<size_t>(g)]
                  [static_cast<size_t>(row.get() * widths_[static_cast<size_t>(g)] + index)];
  }

 private:
  std::vector<std::vector<PageId>> tables_;
  std::vector<int32_t> widths_;
};

// What a paged group's fields say about one sequence against what the simulation gave it.
void expect_pages(const StepPlan& plan, const Simulation& simulation, size_t s, int32_t g,
                  DeviceTables& device) {
  const Simulation::Sequence& sequence = *simulation.scheduled()[s];
  const int32_t page_tokens = simulation.limits().group(GroupId(g)).page_tokens;
  const TableRow table_row = plan.get(field::table_rows, GroupId(g))[s];
  const std::vector<PageId>& pages = sequence.pages[static_cast<size_t>(g)];
  for (int32_t position = 0; position < sequence.computed + sequence.rows; ++position) {
    const PageId page = pages[static_cast<size_t>(position / page_tokens)];
    ASSERT_EQ(device.at(g, table_row, position / page_tokens), page)
        << "group " << g << " position " << position;
    if (position < sequence.computed) continue;
    const auto row =
        static_cast<size_t>(plan.get(field::query_start_loc)[s].get() + position - sequence.computed);
    ASSERT_EQ(plan.get(field::slot_mapping, GroupId(g))[row],
              SlotOrSkip(page.get() * page_tokens + position % page_tokens));
  }
}

void expect_rows(const StepPlan& plan, const Simulation& simulation) {
  size_t row = 0, logits_row = 0;
  for (size_t s = 0; s < simulation.scheduled().size(); ++s) {
    const Simulation::Sequence& sequence = *simulation.scheduled()[s];
    ASSERT_EQ(plan.get(field::query_start_loc)[s], RowOffset(row));
    for (int32_t i = 0; i < sequence.rows; ++i, ++row) {
      ASSERT_EQ(plan.get(field::positions)[row], Position(sequence.computed + i));
      ASSERT_EQ(plan.get(field::token_ids)[row], sequence.tokens[static_cast<size_t>(sequence.computed + i)]);
      const bool writes = i + 1 == sequence.rows && sequence.state != StateSlot(0);
      ASSERT_EQ(plan.get(field::state_write_slots)[row],
                writes ? StateSlotOrSkip(sequence.state) : StateSlotOrSkip::skip());
    }
    if (sequence.rows == 0 || !sequence.wants_logits()) continue;
    ASSERT_EQ(plan.get(field::logits_rows)[logits_row], RowIndex(row - 1));
    ASSERT_EQ(plan.get(field::seed)[logits_row], sequence.sampling.seed);
    ++logits_row;
  }
  ASSERT_EQ(plan.scalar(field::num_rows), LiveRows(row));
  ASSERT_EQ(plan.scalar(field::num_logits_rows), LiveRows(logits_row));
}

TEST(PlanProperty, RandomStepsGiveValidPlansThatSayWhatWasScheduled) {
  for (uint64_t seed = 1; seed <= kSimulations; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Simulation simulation(seed);
    PlanValidator validator(simulation.limits());
    DeviceTables device(simulation.limits());
    StepPlan plan;
    for (int i = 0; i < kPlans; ++i) {
      SCOPED_TRACE("plan " + std::to_string(i + 1));
      const Status built = simulation.next(plan);
      ASSERT_TRUE(built.ok()) << built.message();

      const Status valid = validator.validate(plan);

      ASSERT_TRUE(valid.ok()) << valid.message();
      expect_rows(plan, simulation);
      for (int32_t g = 0; g < simulation.limits().num_groups; ++g) {
        const GroupId group(g);
        const auto copies = plan.get(field::copies, group);
        ASSERT_TRUE(
            std::equal(simulation.copies(group).begin(), simulation.copies(group).end(), copies.begin()));
        if (simulation.limits().group(group).kind != GroupKind::kPaged) continue;
        device.apply(plan, g);
        for (size_t s = 0; s < simulation.scheduled().size(); ++s)
          expect_pages(plan, simulation, s, g, device);
      }
      if (HasFatalFailure()) return;
    }
  }
}

// What the simulations reach: a property test that never forks or never pads would prove little.
TEST(PlanProperty, RandomStepsReachEveryKindOfStep) {
  std::array<int, 4> phases{};
  int pads = 0, empty = 0, long_pads = 0, copies = 0, sourced = 0, two_groups = 0, no_states = 0,
      penalties = 0;
  for (uint64_t seed = 1; seed <= kSimulations; ++seed) {
    Simulation simulation(seed);
    StepPlan plan;
    for (int i = 0; i < kPlans; ++i) {
      ASSERT_TRUE(simulation.next(plan).ok());
      ++phases[static_cast<size_t>(plan.scalar(field::phase))];
      const auto live = static_cast<size_t>(plan.scalar(field::num_seqs).get());
      const auto lengths = plan.get(field::seq_lens).subspan(live);
      pads += std::any_of(lengths.begin(), lengths.end(), [](TokenCount n) { return n == TokenCount(1); });
      long_pads +=
          std::any_of(lengths.begin(), lengths.end(), [](TokenCount n) { return n > TokenCount(1); });
      empty += std::any_of(lengths.begin(), lengths.end(), [](TokenCount n) { return n == TokenCount(0); });
      for (int32_t g = 0; g < simulation.limits().num_groups; ++g)
        copies += plan.scalar(field::num_copies, GroupId(g));
      sourced += plan.scalar(field::source_epoch) != Epoch(0);
      two_groups += plan.get(field::slot_mapping, GroupId(2)).size() > 0;
      no_states += live > 0 && plan.get(field::state_read_slot)[0] == StateSlot(0);
      const auto slots = plan.get(field::sample_penalty_slots);
      penalties +=
          std::any_of(slots.begin(), slots.end(), [](PenaltySlot p) { return p != PenaltySlot(-1); });
    }
  }
  constexpr int kOften = kSimulations * kPlans / 100;
  for (const int phase : phases) EXPECT_GT(phase, kOften / 2);
  for (const int reached : {pads, empty, long_pads, copies, sourced, two_groups, no_states, penalties})
    EXPECT_GT(reached, kOften);
}

}  // namespace
}  // namespace lockstep
