#include "model/blocks/shared_rows.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <thread>

#include "comm/thread_fabric.h"
#include "kernels/table.h"

namespace lockstep {
namespace {

constexpr std::chrono::seconds kPatient(20);

// Three ranks of four rows of two; logits rows 0 to 2 are row 3 of rank 2, row 0 of rank 0 and row 1 of rank
// 2, and there is one pad entry.
struct Wanted {
  std::vector<float> x = std::vector<float>(8), out = std::vector<float>(8, -1);
  std::vector<float> scratch = std::vector<float>(4 * 8);
  std::vector<int32_t> rows = {3, 0, 1, -1}, places = {2 * 4 + 0, 0 * 4 + 1, 2 * 4 + 2, -1};
  LiveRows live{3};

  explicit Wanted(int32_t rank) { std::iota(x.begin(), x.end(), static_cast<float>(100 * rank)); }
  SharedRowsArgs args(Communicator* group) {
    return {.x = dense_view(x.data(), DType::kF32, {4, 2}),
            .rows = dense_view(rows.data(), DType::kI32, {4}),
            .places = dense_view(places.data(), DType::kI32, {4}),
            .out = dense_view(out.data(), DType::kF32, {4, 2}),
            .scratch = dense_view(scratch.data(), DType::kU8, {static_cast<int64_t>(scratch.size() * 4)}),
            .num_logits_rows = &live,
            .group = group};
  }
};

TEST(SharedRows, AreOnEveryRankWhatTheyAreOnTheRankThatHasThem) {
  auto members = make_thread_group("cp", 3, kPatient);
  std::vector<std::jthread> threads;
  for (int32_t rank = 0; rank < 3; ++rank) {
    threads.emplace_back([&, rank] {
      Wanted wanted(rank);
      Stream stream(1);
      const Status status = shared_rows({kernel_table(Isa::kReference), stream},
                                        wanted.args(members[static_cast<size_t>(rank)].get()), "test");
      ASSERT_TRUE(status.ok()) << status.message();
      EXPECT_EQ(wanted.out, (std::vector<float>{206, 207, 0, 1, 202, 203, 0, 0}));
    });
  }
}

TEST(SharedRows, AreNaNWhereTheExchangeFails) {
  auto members = make_thread_group("cp", 3, kPatient);
  members[0]->fail(error(Code::kDevice, "gone"));
  Wanted wanted(0);
  Stream stream(1);
  ASSERT_TRUE(
      shared_rows({kernel_table(Isa::kReference), stream}, wanted.args(members[0].get()), "test").ok());
  for (size_t i = 0; i < 6; ++i) EXPECT_TRUE(std::isnan(wanted.out[i])) << i;
  EXPECT_EQ(wanted.out[6], 0);
}

TEST(SharedRows, NeedScratchForAllRanks) {
  auto members = make_thread_group("cp", 3, kPatient);
  Wanted wanted(0);
  wanted.scratch.resize(31);
  Stream stream(1);
  const Status status =
      shared_rows({kernel_table(Isa::kReference), stream}, wanted.args(members[0].get()), "test");
  EXPECT_EQ(status.message(), "shared_rows: workspace has 124 bytes; expected at least 128");
}

}  // namespace
}  // namespace lockstep
