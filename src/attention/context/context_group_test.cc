#include "attention/context/context_group.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <thread>

#include "comm/thread_fabric.h"
#include "kernels/table.h"

namespace lockstep {
namespace {

constexpr std::chrono::seconds kPatient(20);
using Members = std::vector<std::unique_ptr<Communicator>>;

template <typename Rank>
void on_threads(int32_t ranks, Rank rank) {
  std::vector<std::jthread> threads;
  for (int32_t r = 0; r < ranks; ++r) threads.emplace_back([&rank, r] { rank(r); });
}

TensorView floats(std::vector<float>& values, const Shape& shape) {
  return dense_view(values.data(), DType::kF32, shape);
}

// Keys and values of one rank, as columns of wider rows; the last row is a pad row of NaN.
struct Rows {
  static constexpr int64_t kRows = 3, kHeads = 2, kDim = 4, kWidth = 20;
  std::vector<float> all = std::vector<float>(kRows * kWidth);
  LiveRows live{2};

  explicit Rows(int32_t rank) {
    std::iota(all.begin(), all.end(), static_cast<float>(1000 * rank));
    std::fill(all.begin() + 2 * kWidth, all.end(), NAN);
  }
  TensorView heads(int64_t column) { return floats(all, {kRows, kWidth}).heads(column, kHeads, kDim, kDim); }
};

TEST(GatherKv, BringsTheRowsOfAllRanksAndZeroForPads) {
  constexpr int32_t kRanks = 3;
  Members members = make_thread_group("cp", kRanks, kPatient);
  on_threads(kRanks, [&](int32_t rank) {
    Rows own(rank);
    std::vector<float> out(kRanks * 3 * 16, -1), scratch(3 * 16, -1);
    Stream stream(1);
    const Status status = gather_kv({kernel_table(Isa::kReference), stream},
                                    {.k = own.heads(1),
                                     .v = own.heads(10),
                                     .out = floats(out, {kRanks * 3, 2, 2, 4}),
                                     .scratch = floats(scratch, {3, 2, 2, 4}),
                                     .num_rows = &own.live,
                                     .group = members[static_cast<size_t>(rank)].get()},
                                    "test");
    ASSERT_TRUE(status.ok()) << status.message();
    for (int32_t other = 0; other < kRanks; ++other) {
      for (int64_t t = 0; t < 3; ++t) {
        for (int64_t i = 0; i < 16; ++i) {
          const int64_t column = i < 8 ? 1 + i : 10 + (i - 8);
          const auto expected = static_cast<float>(t < 2 ? 1000 * other + t * Rows::kWidth + column : 0);
          ASSERT_EQ(out[static_cast<size_t>((other * 3 + t) * 16 + i)], expected)
              << "rank " << other << " row " << t << " number " << i;
        }
      }
    }
  });
}

TEST(GatherKv, RefusesRoomForOtherRanks) {
  Members members = make_thread_group("cp", 2, kPatient);
  Rows own(0);
  std::vector<float> out(3 * 3 * 16), scratch(3 * 16);
  Stream stream(1);
  const Status status = gather_kv({kernel_table(Isa::kReference), stream},
                                  {.k = own.heads(1),
                                   .v = own.heads(10),
                                   .out = floats(out, {9, 2, 2, 4}),
                                   .scratch = floats(scratch, {3, 2, 2, 4}),
                                   .num_rows = &own.live,
                                   .group = members[0].get()},
                                  "test");
  EXPECT_EQ(status.message(),
            "gather_kv: out has shape [9, 2, 2, 4]; expected [6, 2, K, D], the rows of 2 ranks");
}

// Slots of states, 5 floats of conv and 6 of delta each, with a gap between slots.
struct States {
  std::vector<float> conv, delta;
  std::vector<int32_t> slots;

  explicit States(int32_t rank) : conv(4 * 7), delta(4 * 9), slots{3, 1, 9, -1} {
    std::iota(conv.begin(), conv.end(), static_cast<float>(1000 * rank));
    std::iota(delta.begin(), delta.end(), static_cast<float>(1000 * rank + 500));
  }
  HandOnStatesArgs args(Communicator* group, int64_t root) {
    TensorView conv_view = floats(conv, {4, 5, 1}), delta_view = floats(delta, {4, 1, 2, 3});
    conv_view.strides[0] = 7;
    delta_view.strides[0] = 9;
    return {.conv = conv_view,
            .memory = delta_view,
            .slots = dense_view(slots.data(), DType::kI32, {4}),
            .group = group,
            .root = root};
  }
};

TEST(HandOnStates, GivesTheNamedSlotsOfOneRankToAllAndNothingElse) {
  Members members = make_thread_group("cp", 3, kPatient);
  on_threads(3, [&](int32_t rank) {
    States own(rank);
    States expected(rank);
    const States root(2);
    for (const size_t slot : {3u, 1u}) {
      std::copy_n(root.conv.begin() + static_cast<int64_t>(slot * 7), 5,
                  expected.conv.begin() + static_cast<int64_t>(slot * 7));
      std::copy_n(root.delta.begin() + static_cast<int64_t>(slot * 9), 6,
                  expected.delta.begin() + static_cast<int64_t>(slot * 9));
    }
    Stream stream(1);
    const Status status = hand_on_states({kernel_table(Isa::kReference), stream},
                                         own.args(members[static_cast<size_t>(rank)].get(), 2), "test");
    ASSERT_TRUE(status.ok()) << status.message();
    EXPECT_EQ(own.conv, expected.conv);
    EXPECT_EQ(own.delta, expected.delta);
  });
}

TEST(HandOnStates, LeavesNaNBehindWhenTheExchangeFails) {
  Members members = make_thread_group("cp", 2, kPatient);
  members[0]->fail(error(Code::kDevice, "gone"));
  States own(0);
  Stream stream(1);
  ASSERT_TRUE(
      hand_on_states({kernel_table(Isa::kReference), stream}, own.args(members[0].get(), 0), "test").ok());
  EXPECT_TRUE(std::isnan(own.conv[3 * 7]));
  EXPECT_TRUE(std::isnan(own.delta[9 + 5]));
  EXPECT_EQ(own.conv[0], 0);
}

}  // namespace
}  // namespace lockstep
