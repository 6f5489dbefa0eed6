#include "base/status.h"

#include <gtest/gtest.h>

#include <memory>
#include <set>

#include "base/check.h"

namespace lockstep {
namespace {

Result<int> half(int value) {
  if (value % 2 != 0)
    return error(Code::kInvalidArgument, "half: given ", value, "; expected an even number");
  return value / 2;
}

Status must_be_even(int value) {
  (void)LS_TRY(half(value));
  return {};
}

Result<std::string> quarter(int value) {
  LS_TRY(must_be_even(value));
  const int first = LS_TRY(half(value));
  const int second = LS_TRY(half(first));
  return std::to_string(second);
}

Result<std::unique_ptr<int>> boxed(int value) { return std::make_unique<int>(value); }

Result<int> unboxed(int value) {
  const std::unique_ptr<int> box = LS_TRY(boxed(value));
  return *box;
}

TEST(Status, IsOkUnlessItSaysWhyNot) {
  const Status fine;
  const Status failed = error(Code::kNotFound, "file: ", 3, " are missing; expected ", 0.5, 'x');

  EXPECT_TRUE(fine.ok());
  EXPECT_EQ(fine.code(), Code::kOk);
  EXPECT_EQ(fine.message(), "");
  EXPECT_FALSE(failed.ok());
  EXPECT_EQ(failed.code(), Code::kNotFound);
  EXPECT_EQ(failed.message(), "file: 3 are missing; expected 0.5x");
}

TEST(Status, EveryCodeHasANameOfItsOwn) {
  std::set<std::string_view> names;
  for (int code = 0; code <= static_cast<int>(Code::kInternal); ++code) {
    names.insert(name_of(static_cast<Code>(code)));
  }

  EXPECT_EQ(names.size(), static_cast<size_t>(Code::kInternal) + 1);
  EXPECT_EQ(names.count("unknown"), 0u);
}

TEST(Try, YieldsTheValue) {
  const Result<std::string> result = quarter(12);

  ASSERT_TRUE(result.ok());
  EXPECT_EQ(*result, "3");
}

TEST(Try, ReturnsTheFailureOfAResultWithItsCodeAndMessage) {
  const Result<std::string> result = quarter(6);

  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.status().code(), Code::kInvalidArgument);
  EXPECT_EQ(result.status().message(), "half: given 3; expected an even number");
}

TEST(Try, ReturnsTheFailureOfAStatusFromAFunctionThatGivesAResult) {
  const Result<std::string> result = quarter(5);

  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.status().message(), "half: given 5; expected an even number");
}

TEST(Try, MovesWhatCannotBeCopied) {
  const Result<int> result = unboxed(7);

  ASSERT_TRUE(result.ok());
  EXPECT_EQ(*result, 7);
}

TEST(Try, EvaluatesItsExpressionOnce) {
  int calls = 0;
  const auto count = [&]() -> Result<int> { return ++calls; };
  const auto run = [&]() -> Result<int> { return LS_TRY(count()); };

  EXPECT_EQ(*run(), 1);
  EXPECT_EQ(calls, 1);
}

TEST(CheckDeathTest, PrintsTheBrokenInvariantWithItsValues) {
  const int pages = -1;
  EXPECT_DEATH(LS_CHECK(pages >= 0, "pages ", pages),
               "lockstep: invariant broken: pages >= 0 \\(pages -1\\) in ");
  EXPECT_DEATH(LS_CHECK(pages == 0), "lockstep: invariant broken: pages == 0 \\(\\) in .*status_test");
}

TEST(Check, CostsNothingWhenTheInvariantHolds) {
  int evaluated = 0;
  const auto value = [&] { return ++evaluated; };

  LS_CHECK(evaluated == 0, "never printed ", value());

  EXPECT_EQ(evaluated, 0);
}

}  // namespace
}  // namespace lockstep
