// Any byte of a plan that changes on its own makes the plan a broken one, or is a fact that the plan alone
// knows.
#include "plan/validate/mutations.h"

namespace lockstep {
namespace {

// Fields whose every byte follows from other fields, from the tables or from the limits.
constexpr FieldId kDetermined[] = {
    FieldId::positions,       FieldId::slot_mapping,     FieldId::query_start_loc,
    FieldId::seq_lens,        FieldId::computed_lens,    FieldId::has_initial_state,
    FieldId::cp_segments,     FieldId::table_digests,    FieldId::cp_spans,
    FieldId::cp_slot_mapping, FieldId::cp_logits_rows,   FieldId::cp_ranks,
    FieldId::logits_rows,     FieldId::sample_positions, FieldId::table_edits,
    FieldId::num_rows,        FieldId::num_seqs,         FieldId::num_logits_rows,
    FieldId::max_seq_len,     FieldId::num_table_edits,  FieldId::phase,
    FieldId::num_rows_padded, FieldId::num_seqs_padded,  FieldId::num_logits_rows_padded,
    FieldId::max_query_len,   FieldId::uniform_query_len};

// Whether an edit brings a page that no sequence of the plan reads yet: another page would do as well.
bool reserves_ahead(const StepPlan& plan, const StepLimits& limits) {
  for (int32_t g = 0; g < limits.num_groups; ++g) {
    if (limits.group(GroupId(g)).kind != GroupKind::kPaged) continue;
    for (int32_t e = 0; e < plan.scalar(field::num_table_edits, GroupId(g)); ++e) {
      const TableEdit& edit = plan.get(field::table_edits, GroupId(g))[static_cast<size_t>(e)];
      const auto rows = plan.get(field::table_rows, GroupId(g));
      const auto ends = plan.get(field::cp_spans);
      bool read = false;
      for (size_t s = 0; s < rows.size(); ++s) {
        read = read || (rows[s] == edit.row && ends[s].start.get() + ends[s].length.get() >
                                                   edit.index * limits.group(GroupId(g)).page_tokens);
      }
      if (!read) return true;
    }
  }
  return false;
}

TEST(PlanValidator, RefusesAnyByteThatChangesInAFieldThatFollowsFromOthers) {
  constexpr uint64_t kSeeds = 100;
  constexpr int kTries = 20;  // bytes of each array
  std::array<int64_t, kNumFields> tried{};
  std::mt19937_64 random(11);
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    SCOPED_TRACE(concat("seed ", seed));
    Simulation simulation(seed, seed % 2 == 0 ? 1 : 3);
    PlanValidator validator(simulation.limits());
    StepPlan plan;
    for (int i = 0; i < 20; ++i) {
      ASSERT_TRUE(simulation.next(plan).ok());
      StepPlan bent = plan;
      auto* const bytes = const_cast<std::byte*>(bent.image().data());
      const bool exact = !reserves_ahead(plan, simulation.limits());
      for (const FieldId id : kDetermined) {
        for (int32_t g = 0; g < simulation.limits().num_groups; ++g) {
          const ImageLayout::Place& place = plan.layout().place(id, GroupId(g));
          const bool edits = id == FieldId::table_edits || id == FieldId::num_table_edits;
          if (place.offset < 0 || (edits && !exact)) continue;
          const auto size = static_cast<uint64_t>(place.count * info_of(id).element_bytes);
          for (int tries = 0; tries < kTries && size > 0; ++tries) {
            const uint64_t b = random() % size;
            const size_t at = static_cast<size_t>(place.offset) + b;
            bytes[at] ^= static_cast<std::byte>(1 + random() % 255);
            ASSERT_NE(validator.check(bent), nullptr)
                << name_of(id) << " of group " << g << ", byte " << b << " in plan " << i + 1;
            bytes[at] = plan.image()[at];
            ++tried[static_cast<size_t>(id)];
          }
        }
      }
      ASSERT_EQ(validator.validate(plan).message(), "");
    }
  }
  for (const FieldId id : kDetermined) EXPECT_GT(tried[static_cast<size_t>(id)], 100) << name_of(id);
}

// Whatever bytes a plan consists of, checking and printing it reads nothing that is not there. Sanitizers
// watch.
TEST(PlanValidator, ReadsNothingOutsideAPlanOfRandomBytes) {
  std::mt19937_64 random(13);
  int64_t refused = 0;
  std::ostringstream printed;
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    Simulation simulation(seed, seed % 2 == 0 ? 1 : 3);
    PlanValidator validator(simulation.limits());
    StepPlan plan;
    // A bent plan that is still valid is taken for the next one, which ends this simulation.
    bool taken = false;
    for (int i = 0; i < 20; ++i) {
      ASSERT_TRUE(simulation.next(plan).ok());
      for (int bent = 0; bent < 40 && !taken; ++bent) {
        StepPlan wild = plan;
        auto* const bytes = const_cast<std::byte*>(wild.image().data());
        for (uint64_t flips = 1 + random() % 6; flips > 0; --flips)
          bytes[random() % wild.image().size()] ^= static_cast<std::byte>(1 + random() % 255);
        taken = validator.check(wild) == nullptr;
        refused += taken ? 0 : 1;
        if (bent == 0) print_plan(wild, simulation.limits(), printed);
      }
      if (taken) break;
      ASSERT_EQ(validator.validate(plan).message(), "");
    }
  }
  EXPECT_GT(refused, 5000);
  EXPECT_GT(printed.str().size(), 10000u);
}

}  // namespace
}  // namespace lockstep
