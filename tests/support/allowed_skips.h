// Which tests of a binary may skip themselves where there is a device: a skip hides a lost kernel as well as
// it tells of one that never was.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <string>

#include "base/status.h"
#include "device/registry.h"

namespace lockstep::testing {

// Test by its full name, and why it may skip: part of what it says.
using AllowedSkips = std::map<std::string, std::string>;

// Fails the binary at its end for each skip that is not allowed, and for each test that was allowed to skip
// itself and ran. Where there is no device, all skip themselves, and nothing is said.
class SkipsAreAllowed : public ::testing::Environment {
 public:
  explicit SkipsAreAllowed(AllowedSkips allowed) : allowed_(std::move(allowed)) {}

  void TearDown() override {
    if (!open_device("cuda").ok()) return;
    const ::testing::UnitTest& all = *::testing::UnitTest::GetInstance();
    for (int s = 0; s < all.total_test_suite_count(); ++s) {
      const ::testing::TestSuite& suite = *all.GetTestSuite(s);
      for (int t = 0; t < suite.total_test_count(); ++t) {
        const ::testing::TestInfo& test = *suite.GetTestInfo(t);
        if (test.should_run()) look_at(concat(suite.name(), ".", test.name()), *test.result());
      }
    }
  }

 private:
  void look_at(const std::string& name, const ::testing::TestResult& result) const {
    const auto found = allowed_.find(name);
    if (!result.Skipped()) {
      EXPECT_TRUE(found == allowed_.end()) << name << " ran; expected it to skip itself: " << found->second;
      return;
    }
    std::string said;
    for (int i = 0; i < result.total_part_count(); ++i) said += result.GetTestPartResult(i).message();
    if (found == allowed_.end()) {
      ADD_FAILURE() << name << " skipped itself: " << said << "; expected every test to run but those listed";
    } else {
      EXPECT_NE(said.find(found->second), std::string::npos) << name << " said: " << said;
    }
  }

  AllowedSkips allowed_;
};

}  // namespace lockstep::testing
