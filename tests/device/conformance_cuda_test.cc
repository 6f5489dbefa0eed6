// The conformance suites of the house's backends on a CUDA device.
#include <cctype>

#include "conformance/conformance.h"
#include "device/on_cuda.h"

namespace lockstep::conformance {

void PrintTo(const Case& each, std::ostream* out) { *out << each.id; }

namespace {

class HouseOnCuda : public testing::OnCuda<::testing::TestWithParam<size_t>> {};

TEST_P(HouseOnCuda, Conforms) {
  const DevicePtr device = open_device("cuda").value();
  const CaseResult result = run_case(house_cases(device)[GetParam()]);
  if (result.status.code() == Code::kUnimplemented) GTEST_SKIP() << result.status.message();
  EXPECT_EQ(result.status.message(), "");
}

std::string name_of_case(const ::testing::TestParamInfo<size_t>& info) {
  std::string name = house_cases()[info.param].id.substr(sizeof("conformance/") - 1);
  for (char& letter : name) {
    if (std::isalnum(static_cast<unsigned char>(letter)) == 0) letter = '_';
  }
  return name;
}

INSTANTIATE_TEST_SUITE_P(Backends, HouseOnCuda, ::testing::Range(size_t{0}, house_cases().size()),
                         name_of_case);

}  // namespace
}  // namespace lockstep::conformance
