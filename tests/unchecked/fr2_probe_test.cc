// Field report 2 with every check switched off: a plan that says 30 rows where its sequences end at 26, and
// an attention that leaves rows without a sequence as they were. What the probes see is what took its finders
// days of prints: which layer was first, that its input was clean, and whose rows they are.
#include <gtest/gtest.h>

#include <cstdlib>

#include "fr2_rank.h"

namespace lockstep {

// Stands in for the product's definition: no rule is held up.
bool rule_is_on(std::string_view) { return false; }

namespace {

using namespace fr2;

const std::vector<int32_t> kNobodys{26, 27, 28, 29};

TEST(FieldReport2, ShowsWhichLayerWasFirstThatItsInputWasCleanAndThatNobodyOwnsTheRows) {
  Rank rank(true);
  const StepPlan plan = rank.rank_0_of_the_report();
  ASSERT_EQ(static_cast<Phase>(plan.scalar(field::phase)), Phase::kPrefill);
  ASSERT_EQ(plan.scalar(field::num_rows), LiveRows(30));
  ASSERT_EQ(plan.get(field::query_start_loc).back(), RowOffset(26));

  const Probe& probe = rank.run(plan);

  ASSERT_TRUE(probe.first_bad_launch().has_value());
  const FirstBadLaunch& first = *probe.first_bad_launch();
  EXPECT_EQ(first.at.layer, 3);
  EXPECT_EQ(first.at.layer_kind, LayerKind::kSoftmax);
  EXPECT_EQ(first.at.stage, "attention");
  EXPECT_EQ(first.at.op, "vendor_attention");
  ASSERT_EQ(first.inputs.size(), 1u);
  EXPECT_EQ(first.inputs[0].clean, Verdict::kYes);
  EXPECT_GT(first.inputs[0].max_abs, 0.0);

  bool told = false;
  for (const Finding& finding : probe.findings()) {
    EXPECT_EQ(finding.owner, Owner::kUnowned) << finding.at.op << " " << finding.argument;
    EXPECT_EQ(finding.rows, kNobodys) << finding.at.op << " " << finding.argument;
    EXPECT_TRUE(finding.at.layer == 3 || finding.at.layer == -1) << finding.at.layer;
    if (finding.at.stage != "o_proj" || finding.at.op != "linear" || finding.side != Side::kOutput) continue;
    told = true;
    EXPECT_EQ(finding.nan, 4 * kWidth);  // the report's 8192 elements
    EXPECT_EQ(finding.elements, 4 * kWidth);
    EXPECT_EQ(finding.row_count, 4);
    EXPECT_EQ(finding.inf, 0);
  }
  EXPECT_TRUE(told);
  // For tests/cli/field_report_2.py, which has it explained by the product.
  if (const char* folder = std::getenv("LOCKSTEP_RECORD_DIR")) {
    const Result<std::string> path = write_record(rank.record(), folder);
    ASSERT_TRUE(path.ok()) << path.status().message();
  }
}

// The pad sequence ends at 30, and the vendor's kernel goes by where sequences end: it writes every row.
TEST(FieldReport2, ShowsNothingWhereThePlanIsRight) {
  Rank rank(true);

  const Probe& probe = rank.run(rank.right_plan());

  EXPECT_TRUE(probe.findings().empty());
}

TEST(FieldReport2, ShowsNothingWhereTheAttentionWritesEveryRow) {
  Rank rank(false);

  const Probe& probe = rank.run(rank.rank_0_of_the_report());

  EXPECT_FALSE(probe.first_bad_launch().has_value());
  EXPECT_TRUE(probe.findings().empty());
}

}  // namespace
}  // namespace lockstep
