#include "conformance/conformance.h"

#include <gtest/gtest.h>

#include <cctype>
#include <ostream>

namespace lockstep::conformance {

void PrintTo(const Case& each, std::ostream* out) { *out << each.id; }

namespace {

class House : public ::testing::TestWithParam<Case> {};

TEST_P(House, Conforms) {
  const CaseResult result = run_case(GetParam());
  EXPECT_EQ(result.status.message(), "");
}

std::string name_of_case(const ::testing::TestParamInfo<Case>& info) {
  std::string name = info.param.id.substr(sizeof("conformance/") - 1);
  for (char& letter : name) {
    if (std::isalnum(static_cast<unsigned char>(letter)) == 0) letter = '_';
  }
  return name;
}

INSTANTIATE_TEST_SUITE_P(Backends, House, ::testing::ValuesIn(house_cases()), name_of_case);

}  // namespace
}  // namespace lockstep::conformance
