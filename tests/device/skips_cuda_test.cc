// What a CUDA device leaves out is listed by name: tests of this binary that may skip themselves there
// (none), and ops without a kernel, for which tests that are lent the device's kernels would take the CPU's.
#include <set>

#include "kernels/batch_invariant.h"
#include "kernels/table_walk.h"
#include "support/allowed_skips.h"

namespace lockstep::testing {
namespace {

[[maybe_unused]] const ::testing::Environment* const kWatched =
    ::testing::AddGlobalTestEnvironment(new SkipsAreAllowed({}));

std::set<std::string_view> without_kernel(const KernelTable& table) {
  std::set<std::string_view> missing;
  for_each_kernel([&](const OpSpec& spec, auto member) {
    if (table.*member == nullptr) missing.insert(spec.name);
  });
  return missing;
}

TEST(KernelsOfTheDevice, ServeEveryOp) {
  EXPECT_EQ(without_kernel(kernel_table(Isa::kSm90)), std::set<std::string_view>{});
  // Rows by themselves need nothing prepared.
  EXPECT_EQ(without_kernel(batch_invariant_table(Isa::kSm90)),
            std::set<std::string_view>{kLinearPrepareSpec.name});
}

}  // namespace
}  // namespace lockstep::testing
