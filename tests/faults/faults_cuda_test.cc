// The gallery on a CUDA device: device memory, streams and graphs; wrong kernels are functions of the host in
// the order of the stream, which its graphs capture.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>

#include "device/registry.h"
#include "faults/entries.h"

namespace lockstep::faults {
namespace {

class GalleryOnCuda : public testing::TestWithParam<const Entry*> {
 protected:
  void SetUp() override {
    Result<DevicePtr> opened = open_device("cuda");
    if (!opened.ok()) GTEST_SKIP() << opened.status().message();
    where_ = {.device = *opened, .name = "cuda"};
  }
  Where where_;
};

TEST_P(GalleryOnCuda, TheWrongOneIsNamedAndTheRightOneIsNot) {
  EXPECT_EQ(unmet(GetParam()->expect, GetParam()->wrong(where_)), "");
  EXPECT_EQ(GetParam()->twin(where_).message(), "");
}

TEST_P(GalleryOnCuda, TheWrongOneIsNotNamedByARuleThatIsOff) {
  setenv("LOCKSTEP_TEST_RULE_OFF", std::string(GetParam()->expect.check).c_str(), 1);
  const Status status = GetParam()->wrong(where_);
  unsetenv("LOCKSTEP_TEST_RULE_OFF");
  EXPECT_NE(unmet(GetParam()->expect, status), "");
}

std::vector<const Entry*> entries_of_devices() {
  std::vector<const Entry*> entries;
  std::ranges::copy_if(all_entries(), std::back_inserter(entries),
                       [](const Entry* entry) { return !entry->wrong.on_host(); });
  return entries;
}

INSTANTIATE_TEST_SUITE_P(Faults, GalleryOnCuda, testing::ValuesIn(entries_of_devices()),
                         [](const auto& entry) {
                           std::string name(entry.param->id);
                           std::replace(name.begin(), name.end(), '/', '_');
                           return name;
                         });

}  // namespace
}  // namespace lockstep::faults
