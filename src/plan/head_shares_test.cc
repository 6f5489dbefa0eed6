#include "plan/head_shares.h"

#include <gtest/gtest.h>

#include <vector>

namespace lockstep {
namespace {

std::string check(std::vector<HeadShare> shares, int32_t heads, int32_t copies = 1) {
  return check_head_map(
             {.name = "kv_heads", .heads = heads, .head_size = 64, .copies = copies, .shares = shares})
      .message();
}

TEST(HeadMap, OfWholeHeadsEachHeldEquallyOftenIsRight) {
  EXPECT_EQ(check({{0, 0, 128}, {1, 128, 128}}, 4), "");
  EXPECT_EQ(check({{0, 0, 64}, {1, 0, 64}, {2, 64, 64}, {3, 64, 64}}, 2, 2), "");
}

TEST(HeadMap, NamesARankThatCutsAHead) {
  EXPECT_EQ(check({{0, 0, 32}, {1, 32, 32}}, 1),
            "P7 kv_heads[0] is columns 0..31 in rank 0; expected whole heads of 64 columns");
  EXPECT_EQ(check({{0, 0, 64}, {1, 32, 64}}, 2),
            "P7 kv_heads[1] is columns 32..95 in rank 1; expected whole heads of 64 columns");
}

TEST(HeadMap, NamesARankWithoutHeadsOrWithAnotherNumber) {
  EXPECT_EQ(check({{0, 0, 64}, {1, 64, 64}, {2, 128, 0}}, 2),
            "P7 kv_heads[2] is none in rank 2; expected at least one head in every rank");
  EXPECT_EQ(check({{0, 0, 128}, {1, 128, 64}}, 3),
            "P7 kv_heads[1] is 1 heads in rank 1; expected 2 heads, as in rank 0");
}

TEST(HeadMap, NamesAShareOutsideTheTensor) {
  EXPECT_EQ(check({{0, 0, 64}, {1, 64, 64}}, 1),
            "P7 kv_heads[1] is columns 64..127 in rank 1; expected columns of 1 heads of 64");
}

TEST(HeadMap, NamesAHeadThatMoreOrFewerRanksHoldThanOthers) {
  EXPECT_EQ(check({{0, 0, 64}, {1, 0, 64}}, 2),
            "P7 kv_heads[0] is head 0, held by 2; expected held by 1 of 2 ranks");
  EXPECT_EQ(check({{0, 0, 64}, {1, 0, 64}, {2, 0, 64}, {3, 64, 64}}, 2, 2),
            "P7 kv_heads[0] is head 0, held by 3; expected held by 2 of 4 ranks");
}

}  // namespace
}  // namespace lockstep
