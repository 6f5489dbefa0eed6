// moe_experts where a rank holds some of the experts, and where rows of several ranks are together.
#include <gtest/gtest.h>

#include <cmath>

#include "kernels/moe/moe_case.h"

namespace lockstep {
namespace {

using namespace moe_test;  // NOLINT

constexpr int64_t kExperts = 6, kWidth = 40, kEach = 3;

// The call as if the choices of experts outside [first, first + held) had not been made.
Call without_others(Call call, int32_t first, int64_t held) {
  for (int32_t& id : call.choices.ids) {
    if (id < first || id >= first + held) id = -1;
  }
  return call;
}

TEST(MoeExperts, OfARangeAddNothingForTheOthers) {
  const std::pair<int32_t, int64_t> ranges[] = {{0, 6}, {0, 3}, {3, 3}, {2, 2}, {5, 1}};
  for (const Isa isa : runnable()) {
    Stream stream(2);
    for (const Format& format : kFormats) {
      const Experts experts(format, kExperts, kWidth, 33);
      const Call whole = make_call(experts, 29, kEach, 3);
      for (const auto& [first, held] : ranges) {
        Call part = whole;
        part.first = first;
        part.held = held;
        const std::vector<float> expected = without_others(whole, first, held).run(isa, stream);
        const std::vector<float> out = part.run(isa, stream);
        ASSERT_TRUE(same_bits(out.data(), expected.data(), static_cast<int64_t>(out.size())))
            << describe(isa, format) << ": experts " << first << " to " << first + held;
      }
    }
  }
}

TEST(MoeExperts, OfARangeMarkARowWhoseExpertDoesNotExistWithNaN) {
  for (const Isa isa : runnable()) {
    Stream stream(2);
    const Experts experts({DType::kBF16, MatmulInput::kBF16}, kExperts, 48, 64);
    Call call = make_call(experts, 3, 2);
    call.choices.ids = {0, 4, 6, 2, -2, 3};  // of six experts; two of them are here
    call.first = 2;
    call.held = 2;

    const std::vector<float> out = call.run(isa, stream);

    for (size_t i = 0; i < 48; ++i) EXPECT_EQ(out[i], 0.0f) << name_of(isa) << " element " << i;
    for (size_t i = 48; i < out.size(); ++i)
      EXPECT_TRUE(std::isnan(out[i])) << name_of(isa) << " element " << i;
  }
}

// Three ranks bring 4 rows each, of which 4, 1 and 1 are live.
TEST(MoeExperts, ComputeRowsOfRanksWhereverTheLiveOnesAre) {
  constexpr int64_t kRows = 12;
  const std::vector<int64_t> live = {0, 1, 2, 3, 4};
  for (const Isa isa : runnable()) {
    Stream stream(2);
    for (const Format& format : kFormats) {
      const Experts experts(format, kExperts, kWidth, 33);
      const Call dense = make_call(experts, static_cast<int64_t>(live.size()) + 1, kEach);
      const std::vector<float> expected = dense.run(isa, stream);
      Call gathered = dense;
      gathered.order = MoeRows::kOfRanks;
      gathered.x.assign(static_cast<size_t>(kRows * kWidth), kNaN);
      gathered.choices.ids.assign(static_cast<size_t>(kRows * kEach), -1);
      gathered.choices.weights.assign(static_cast<size_t>(kRows * kEach), kNaN);
      // The last row of the dense call comes last of all: from a rank of one live row.
      const auto place = [&](size_t row) { return row < live.size() ? live[row] : kRows - 4; };
      for (size_t row = 0; row <= live.size(); ++row) {
        const int64_t from = static_cast<int64_t>(row);
        std::copy_n(dense.x.begin() + from * kWidth, kWidth, gathered.x.begin() + place(row) * kWidth);
        std::copy_n(dense.choices.ids.begin() + from * kEach, kEach,
                    gathered.choices.ids.begin() + place(row) * kEach);
        std::copy_n(dense.choices.weights.begin() + from * kEach, kEach,
                    gathered.choices.weights.begin() + place(row) * kEach);
      }

      const std::vector<float> out = gathered.run(isa, stream);

      std::vector<bool> is_live(kRows, false);
      for (size_t row = 0; row <= live.size(); ++row) {
        is_live[static_cast<size_t>(place(row))] = true;
        ASSERT_TRUE(same_bits(out.data() + place(row) * kWidth,
                              expected.data() + static_cast<int64_t>(row) * kWidth, kWidth))
            << describe(isa, format) << ": row " << place(row);
      }
      for (size_t i = 0; i < out.size(); ++i) {
        if (!is_live[i / kWidth]) {
          ASSERT_EQ(out[i], 0.0f) << describe(isa, format) << ": pad element " << i;
        }
      }
    }
  }
}

}  // namespace
}  // namespace lockstep
