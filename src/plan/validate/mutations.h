// Breaking valid plans on purpose, for tests: a mutation edits a copy of a random valid plan and says which
// violation has to be found, all of it. Nothing else may be found first.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "plan/validate.h"
#include "plan/validate/simulation.h"

namespace lockstep {

using Expected = std::optional<Violation>;  // nothing: the mutation does not apply to this plan

template <typename... Parts>
std::string text(const Parts&... parts) {
  return std::string(FixedText(parts...).view());
}

inline Expected broken(std::string_view check, FieldId field, int32_t index, std::string_view expected,
                       std::string_view found, GroupId group = GroupId(0)) {
  return Violation{.check = check,
                   .field = field,
                   .index = index,
                   .group = group,
                   .expected = FixedText(expected),
                   .found = FixedText(found)};
}

// A copy of a valid plan, and what a mutation needs to know about it.
struct Draft {
  StepPlan plan;
  const StepLimits& limits;
  std::mt19937_64& random;
  uint64_t last_epoch = 0;       // of the plan before
  int32_t last_logits_rows = 0;  // of the plan before

  int32_t rows() const { return plan.scalar(field::num_rows).get(); }
  int32_t rows_padded() const { return plan.bucket().rows.get(); }
  int32_t seqs() const { return plan.scalar(field::num_seqs).get(); }
  int32_t seqs_padded() const { return plan.bucket().seqs.get(); }
  int32_t logits_rows() const { return plan.scalar(field::num_logits_rows).get(); }
  int32_t start(int32_t s) const { return plan.get(field::query_start_loc)[static_cast<size_t>(s)].get(); }
  int32_t rows_of(int32_t s) const { return start(s + 1) - start(s); }
  int32_t computed(int32_t s) const { return plan.get(field::computed_lens)[static_cast<size_t>(s)].get(); }
  int32_t length(int32_t s) const { return plan.get(field::seq_lens)[static_cast<size_t>(s)].get(); }
  // The sequence that owns a row.
  int32_t owner(int32_t row) const {
    int32_t s = 0;
    while (start(s + 1) <= row) ++s;
    return s;
  }
  template <typename T>
  T& at(Field<T> f, int32_t index, GroupId group = GroupId(0)) {
    return plan.edit(f, group)[static_cast<size_t>(index)];
  }

  // Random choices, -1 where there is nothing to choose from.
  int32_t pick(int32_t least, int32_t most) {
    return std::uniform_int_distribution<int32_t>(least, most)(random);
  }
  int32_t any(int32_t count) { return count > 0 ? pick(0, count - 1) : -1; }
  int32_t any_live_row() { return any(rows()); }
  int32_t any_pad_row() { return rows() < rows_padded() ? pick(rows(), rows_padded() - 1) : -1; }
  int32_t any_pad_sequence() { return seqs() < seqs_padded() ? pick(seqs(), seqs_padded() - 1) : -1; }
  GroupId any_group(GroupKind kind) {
    std::vector<GroupId> groups;
    for (int32_t g = 0; g < limits.num_groups; ++g) {
      if (limits.group(GroupId(g)).kind == kind) groups.emplace_back(g);
    }
    return groups.empty() ? GroupId(-1)
                          : groups[static_cast<size_t>(any(static_cast<int32_t>(groups.size())))];
  }
  bool recurrent() { return any_group(GroupKind::kState) != GroupId(-1); }
};

struct Mutation {
  const char* name;
  Expected (*apply)(Draft& draft);
};

inline void expect_violation(const Violation* found, const Violation& expected, Epoch epoch) {
  ASSERT_NE(found, nullptr) << "nothing found; expected " << describe(expected, epoch);
  EXPECT_EQ(describe(*found, epoch), describe(expected, epoch));
  EXPECT_EQ(found->index, expected.index);
  EXPECT_EQ(found->group, expected.group);
}

// Tries each mutation on each plan of many simulations. The validator refuses all of them before it accepts
// the plan itself, so a refusal that leaves a trace shows too. Every mutation has to apply often enough.
inline void try_mutations(std::span<const Mutation> mutations, int32_t cp_ranks = 1) {
  constexpr uint64_t kSeeds = 80;
  constexpr int kPlans = 30;
  constexpr int kLeast = 15;
  std::vector<int> applied(mutations.size());
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    Simulation simulation(seed, cp_ranks);
    std::mt19937_64 choices(seed);
    PlanValidator validator(simulation.limits());
    StepPlan plan;
    uint64_t last_epoch = 0;
    int32_t last_logits_rows = 0;
    for (int i = 0; i < kPlans; ++i) {
      ASSERT_TRUE(simulation.next(plan).ok());
      for (size_t m = 0; m < mutations.size(); ++m) {
        SCOPED_TRACE(concat("seed ", seed, ", plan ", i + 1, ": ", mutations[m].name));
        Draft draft{.plan = plan,
                    .limits = simulation.limits(),
                    .random = choices,
                    .last_epoch = last_epoch,
                    .last_logits_rows = last_logits_rows};
        const Expected expected = mutations[m].apply(draft);
        if (!expected) continue;
        ++applied[m];
        expect_violation(validator.check(draft.plan), *expected, plan.scalar(field::epoch));
        if (testing::Test::HasFailure()) return;
      }
      const Status valid = validator.validate(plan);
      ASSERT_TRUE(valid.ok()) << "seed " << seed << ": " << valid.message();
      last_epoch = plan.scalar(field::epoch).get();
      last_logits_rows = plan.scalar(field::num_logits_rows).get();
    }
  }
  for (size_t m = 0; m < mutations.size(); ++m) EXPECT_GE(applied[m], kLeast) << mutations[m].name;
}

}  // namespace lockstep
