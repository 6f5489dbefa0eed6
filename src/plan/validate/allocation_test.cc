// What a check asks of the heap: nothing, whether the plan is valid or broken.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "plan/validate.h"
#include "plan/validate/simulation.h"

namespace lockstep {
namespace {

// Counts the allocations of this test program.
struct AllocationCounter {
  mutable std::atomic<int64_t> count = 0;
};
constinit const AllocationCounter kAllocations;

// Allocations that a call makes.
template <typename Call>
int64_t allocations_of(Call call) {
  const int64_t before = kAllocations.count;
  call();
  return kAllocations.count - before;
}

void* counted(size_t bytes) {
  ++kAllocations.count;
  void* memory = std::malloc(bytes > 0 ? bytes : 1);
  if (memory == nullptr) std::abort();
  return memory;
}

}  // namespace
}  // namespace lockstep

void* operator new(size_t bytes) { return lockstep::counted(bytes); }
void* operator new[](size_t bytes) { return lockstep::counted(bytes); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, size_t) noexcept { std::free(memory); }

namespace lockstep {
namespace {

TEST(PlanAllocations, AreSeenByTheCounter) {
  EXPECT_EQ(allocations_of([] { std::vector<int> grown(3); }), 1);
}

TEST(PlanAllocations, AreNoneInCheckingValidAndBrokenPlans) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    Simulation simulation(seed, seed % 2 == 0 ? 1 : 4);
    PlanValidator validator(simulation.limits());
    StepPlan plan;
    for (int i = 0; i < 50; ++i) {
      ASSERT_TRUE(simulation.next(plan).ok());
      StepPlan broken = plan;
      broken.edit(field::num_rows)[0] = LiveRows(plan.bucket().rows.get() + 1);
      StepPlan broken_late = plan;
      if (!broken_late.edit(field::min_p).empty()) broken_late.edit(field::min_p).back() = 2.5f;

      const Violation* found = nullptr;
      EXPECT_EQ(allocations_of([&] { found = validator.check(broken); }), 0);
      EXPECT_NE(found, nullptr);
      EXPECT_EQ(allocations_of([&] { found = validator.check(broken_late); }), 0);
      EXPECT_EQ(found != nullptr, !plan.get(field::min_p).empty());
      // Ended epochs do not come back, so a plan that was accepted above is not given again.
      if (found == nullptr) continue;
      EXPECT_EQ(allocations_of([&] { found = validator.check(plan); }), 0);
      EXPECT_EQ(found, nullptr) << describe(*found, plan.scalar(field::epoch));
    }
  }
}

TEST(PlanAllocations, AreNoneInBuildingOnceWarm) {
  StepLimits limits{.max_rows = 8,
                    .max_seqs = 8,
                    .max_logits_rows = 8,
                    .max_seq_len = 64,
                    .max_edits = 8,
                    .vocab_size = 4,
                    .num_groups = 1};
  limits.groups[0] = {
      .page_tokens = 4, .kernel_page_tokens = 4, .num_pages = 40, .table_rows = 3, .max_pages_per_seq = 16};
  PageTables tables(3, 16);
  tables.append(TableRow(1), PageId(1));
  PlanBuilder builder(limits, {&tables});
  const std::vector<TokenId> tokens(1);
  StepPlan plan;
  const auto build = [&](int32_t computed) {
    SequenceStep step{.tokens = tokens, .computed = TokenCount(computed), .prompt_len = TokenCount(1)};
    step.table_rows[0] = TableRow(1);
    const Status built = builder.build(
        {.epoch = Epoch(1), .sequences = {&step, 1}, .bucket = {PaddedRows(8), PaddedSeqs(8), PaddedRows(8)}},
        plan);
    LS_CHECK(built.ok(), built.message());
  };
  build(0);

  EXPECT_EQ(allocations_of([&] { build(1); }), 0);
}

}  // namespace
}  // namespace lockstep
