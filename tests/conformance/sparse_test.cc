// The fault that sparse_pages.h can have: named at the capture, and where nothing is captured, at the commit.
#include <gtest/gtest.h>

#include "base/fault.h"
#include "conformance/attention_cases.h"

namespace lockstep::conformance {
namespace {

TEST(SparsePages, WithSumsInThePlanAreRefusedAtTheCapture) {
  const Status status = sparse_sums_in_the_plan(Mode::kGraph);
  ASSERT_NE(status.fault(), nullptr) << status.message();
  EXPECT_EQ(status.message(),
            "step 1: L4 select_pages (select_pages, layer 0): selected_starts is written to, in the plan's "
            "query_start_loc + 0 bytes; expected no launch to write to the plan");
  EXPECT_EQ(status.fault()->moment, Moment::kCapture);
}

TEST(SparsePages, WithSumsInThePlanAreNamedAtTheCommitOnceTheyDiffer) {
  const Status status = sparse_sums_in_the_plan(Mode::kEager);
  ASSERT_NE(status.fault(), nullptr) << status.message();
  EXPECT_EQ(status.fault()->check, "R4");
  EXPECT_EQ(status.fault()->moment, Moment::kCommit);
  EXPECT_EQ(status.fault()->field, "query_start_loc");
  EXPECT_EQ(status.fault()->step, 5u);
}

}  // namespace
}  // namespace lockstep::conformance
