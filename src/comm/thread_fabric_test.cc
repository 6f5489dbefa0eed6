#include "comm/thread_fabric.h"

#include <gtest/gtest.h>

#include <atomic>

#include "base/fault.h"
#include "comm/test_cases.h"

namespace lockstep::comm_test {
namespace {

using Members = std::vector<std::unique_ptr<Communicator>>;

// What each rank hears when all enter what `enter(group)` says.
template <typename Enter>
std::vector<Status> hear(Members& members, Enter enter) {
  std::vector<Status> heard(members.size());
  on_threads(static_cast<int32_t>(members.size()), [&](int32_t rank) {
    const auto at = static_cast<size_t>(rank);
    heard[at] = enter(*members[at]);
  });
  return heard;
}

Status gather_floats(Communicator& group, size_t count) {
  const std::vector<float> mine(count);
  std::vector<float> all(count * static_cast<size_t>(group.size()));
  return group.all_gather(std::as_bytes(std::span(mine)), std::as_writable_bytes(std::span(all)),
                          DType::kF32);
}

void expect_all(const std::vector<Status>& heard, std::string_view message) {
  for (size_t rank = 0; rank < heard.size(); ++rank) {
    EXPECT_EQ(heard[rank].message(), message) << "rank " << rank;
    ASSERT_NE(heard[rank].fault(), nullptr) << "rank " << rank;
    EXPECT_EQ(heard[rank].fault()->check, "G1");
    EXPECT_EQ(heard[rank].fault()->moment, Moment::kGroup);
  }
}

TEST(ThreadFabric, CarriesEveryPrimitiveForOneToEightRanksAndRandomSizes) {
  for (int32_t ranks = 1; ranks <= 8; ++ranks) {
    Members members = make_thread_group("tp", ranks, kPatient);
    on_threads(ranks, [&](int32_t rank) {
      check_primitives(*members[static_cast<size_t>(rank)], 100 + static_cast<uint64_t>(ranks), 60);
    });
    ASSERT_FALSE(HasFailure()) << ranks << " ranks";
  }
}

TEST(ThreadFabric, LosesNothingOverManySmallExchanges) {
  Members members = make_thread_group("tp", 3, kPatient);
  on_threads(3, [&](int32_t rank) {
    for (int32_t i = 0; i < 3000; ++i) {
      const int32_t mine = i * 10 + rank;
      std::vector<int32_t> all(3);
      ASSERT_TRUE(members[static_cast<size_t>(rank)]
                      ->all_gather(std::as_bytes(std::span(&mine, 1)), std::as_writable_bytes(std::span(all)),
                                   DType::kI32)
                      .ok());
      ASSERT_EQ(all, (std::vector<int32_t>{i * 10, i * 10 + 1, i * 10 + 2}));
    }
  });
}

TEST(ThreadFabric, NamesTheRankThatBringsAnotherNumberOfRows) {
  Members members = make_thread_group("experts", 3, kShort);

  const auto heard =
      hear(members, [](Communicator& group) { return gather_floats(group, group.rank() == 1 ? 64 : 128); });

  expect_all(heard,
             "G1 experts: collective 1 is all_gather of 64 f32 on rank 1; expected all_gather of 128 f32, as "
             "on rank 0\n"
             "rank  op          root  dtype  count  collective\n"
             "   0  all_gather     -  f32      128           1\n"
             "   1  all_gather     -  f32       64           1  differs\n"
             "   2  all_gather     -  f32      128           1");
  EXPECT_EQ(heard[0].code(), Code::kInternal);
  EXPECT_EQ(heard[0].fault()->rank, 1);
}

TEST(ThreadFabric, NamesTheRankThatEntersAnotherOp) {
  Members members = make_thread_group("tp", 2, kShort);

  const auto heard = hear(members, [](Communicator& group) {
    std::vector<std::byte> bytes(8), received(8);
    if (group.rank() == 1) return group.broadcast(bytes, 1, DType::kU8);
    return group.all_to_all(bytes, received, 4, DType::kU8);
  });

  expect_all(
      heard,
      "G1 tp: collective 1 is broadcast of 8 u8 from rank 1 on rank 1; expected all_to_all of 8 u8, as "
      "on rank 0\n"
      "rank  op          root  dtype  count  collective\n"
      "   0  all_to_all     -  u8         8           1\n"
      "   1  broadcast      1  u8         8           1  differs");
}

TEST(ThreadFabric, NamesRanksThatBroadcastFromDifferentRoots) {
  Members members = make_thread_group("tp", 2, kShort);

  const auto heard = hear(members, [](Communicator& group) {
    std::vector<std::byte> bytes(8);
    return group.broadcast(bytes, group.rank(), DType::kU8);
  });

  expect_all(
      heard,
      "G1 tp: collective 1 is broadcast of 8 u8 from rank 1 on rank 1; expected broadcast of 8 u8 from "
      "rank 0, as on rank 0\n"
      "rank  op         root  dtype  count  collective\n"
      "   0  broadcast     0  u8         8           1\n"
      "   1  broadcast     1  u8         8           1  differs");
}

TEST(ThreadFabric, NamesTheRankWhoseNumbersAreOfAnotherType) {
  Members members = make_thread_group("tp", 2, kShort);

  const auto heard = hear(members, [](Communicator& group) {
    const std::vector<std::byte> mine(8);
    std::vector<std::byte> all(16);
    return group.all_gather(mine, all, group.rank() == 0 ? DType::kF32 : DType::kBF16);
  });

  expect_all(
      heard,
      "G1 tp: collective 1 is all_gather of 4 bf16 on rank 1; expected all_gather of 2 f32, as on rank 0\n"
      "rank  op          root  dtype  count  collective\n"
      "   0  all_gather     -  f32        2           1\n"
      "   1  all_gather     -  bf16       4           1  differs");
}

TEST(ThreadFabric, NamesTheRankThatEntersTwoCollectivesInAnotherOrder) {
  Members members = make_thread_group("tp", 3, kShort);

  const auto heard = hear(members, [](Communicator& group) {
    LS_TRY(gather_floats(group, 1));
    const bool odd = group.rank() == 2;
    LS_TRY(gather_floats(group, odd ? 20 : 10));
    return gather_floats(group, odd ? 10 : 20);
  });

  expect_all(
      heard,
      "G1 tp: collective 2 is all_gather of 20 f32 on rank 2; expected all_gather of 10 f32, as on rank 0\n"
      "rank  op          root  dtype  count  collective\n"
      "   0  all_gather     -  f32       10           2\n"
      "   1  all_gather     -  f32       10           2\n"
      "   2  all_gather     -  f32       20           2  differs");
}

// Op, type and size are the same, so only their names tell these two apart.
TEST(ThreadFabric, NamesTheRankThatSwapsTwoCollectivesOfOneKind) {
  Members members = make_thread_group("tp", 2, kShort);

  const auto heard = hear(members, [](Communicator& group) {
    Bench bench;
    bench.stream.set_layer(3);
    std::vector<float> x(8);
    std::vector<uint8_t> scratch(static_cast<size_t>(all_reduce_scratch_bytes(2, 4, 2)));
    const auto sum = [&](std::string_view stage) {
      const Status launched = all_reduce(bench.launcher(),
                                         {.x = view(x, {2, 4}),
                                          .scratch = view(scratch, {static_cast<int64_t>(scratch.size())}),
                                          .group = &group},
                                         stage);
      return launched.ok() ? group.status() : launched;
    };
    LS_TRY(sum(group.rank() == 1 ? "moe_sum" : "o_sum"));
    return sum(group.rank() == 1 ? "o_sum" : "moe_sum");
  });

  expect_all(
      heard,
      "G1 tp: collective 1 is all_gather of 8 f32 at layer 3 moe_sum on rank 1; expected all_gather of "
      "8 f32 at layer 3 o_sum, as on rank 0\n"
      "rank  op          root  dtype  count  collective  of\n"
      "   0  all_gather     -  f32        8           1  layer 3 o_sum\n"
      "   1  all_gather     -  f32        8           1  layer 3 moe_sum  differs");
}

// What one path of the field did: a list of one output for a group of several, which waits for ever.
TEST(ThreadFabric, NamesTheRankThatGathersIntoTheWrongNumberOfOutputs) {
  Members members = make_thread_group("experts", 3, kShort);

  const auto heard = hear(members, [](Communicator& group) {
    const std::vector<std::byte> mine(8);
    std::vector<std::byte> all(group.rank() == 2 ? 8 : 24);
    return group.all_gather(mine, all, DType::kF32, {.stage = "gather_rows", .layer = 0});
  });

  expect_all(
      heard,
      "G1 experts: collective 1 is all_gather of 2 f32 into 1 output at layer 0 gather_rows on rank 2; "
      "expected all_gather of 2 f32 at layer 0 gather_rows, as on rank 0\n"
      "rank  op          root  dtype  count  outputs  collective  of\n"
      "   0  all_gather     -  f32        2        3           1  layer 0 gather_rows\n"
      "   1  all_gather     -  f32        2        3           1  layer 0 gather_rows\n"
      "   2  all_gather     -  f32        2        1           1  layer 0 gather_rows  differs");
}

TEST(ThreadFabric, NamesAGatherThatHasRoomForTooFewOnEveryRank) {
  Members members = make_thread_group("experts", 2, kShort);

  const auto heard = hear(members, [](Communicator& group) {
    const std::vector<std::byte> mine(8);
    std::vector<std::byte> all(8);
    return group.all_gather(mine, all, DType::kF32);
  });

  expect_all(heard,
             "G1 experts: collective 1 is all_gather of 2 f32 into 1 output on rank 0; expected room for 2 "
             "ranks\n"
             "rank  op          root  dtype  count  outputs  collective\n"
             "   0  all_gather     -  f32        2        1           1\n"
             "   1  all_gather     -  f32        2        1           1");
}

TEST(ThreadFabric, NamesTheRanksThatDoNotCome) {
  std::vector<Ledger> ledgers(4);
  for (Ledger& ledger : ledgers) ledger.begin_step(7);
  Members members = make_thread_group("dp", 4, kShort, ledgers);

  auto heard = hear(members, [](Communicator& group) {
    LS_TRY(gather_floats(group, 5));
    return group.rank() == 0 || group.rank() == 3 ? gather_floats(group, 5) : Status();
  });
  for (const size_t late : {1, 2}) heard[late] = gather_floats(*members[late], 5);

  expect_all(
      heard,
      "step 7: G1 dp: rank 1, rank 2 did not come to collective 2, all_gather of 5 f32; expected all 4 "
      "ranks within 200 ms; the group is closed");
  EXPECT_EQ(heard[0].code(), Code::kDevice);
  EXPECT_EQ(heard[0].fault()->field, "participation");
  EXPECT_EQ(heard[0].fault()->rank, 1);
  EXPECT_EQ(heard[0].fault()->step, 7u);
  EXPECT_EQ(heard[0].fault()->found, "without rank 1, rank 2 at collective 2, all_gather of 5 f32");
}

TEST(ThreadFabric, FreesEverybodyWhenSomebodyElseFails) {
  Members members = make_thread_group("tp", 3, kPatient);
  std::atomic<int32_t> waiting{0};
  std::vector<Status> heard(2);
  {
    std::jthread control([&] {
      while (waiting.load() < 2) std::this_thread::yield();
      members[2]->fail(error(Code::kDevice, "the control thread says that rank 2 is gone"));
    });
    on_threads(2, [&](int32_t rank) {
      ++waiting;
      heard[static_cast<size_t>(rank)] = gather_floats(*members[static_cast<size_t>(rank)], 3);
    });
  }

  for (const Status& status : heard)
    EXPECT_EQ(status.message(), "the control thread says that rank 2 is gone");
  EXPECT_EQ(gather_floats(*members[2], 3).message(), "the control thread says that rank 2 is gone");
}

TEST(ThreadFabric, KeepsTheFirstReason) {
  Members members = make_thread_group("tp", 2, kPatient);
  EXPECT_TRUE(members[0]->status().ok());

  members[0]->fail(error(Code::kDevice, "first"));
  members[0]->fail(error(Code::kInternal, "second"));
  members[1]->fail(error(Code::kInternal, "third"));

  EXPECT_EQ(members[0]->status().message(), "first");
  EXPECT_EQ(gather_floats(*members[0], 1).message(), "first");
}

TEST(ThreadFabric, ClosesTheGroupOfARankWhoseSizesDoNotFit) {
  Members members = make_thread_group("tp", 2, kPatient);
  std::vector<std::byte> three(3), eight(8);

  EXPECT_EQ(members[0]->all_gather(three, eight, DType::kU8).message(),
            "tp: all_gather of 3 bytes into 8; expected 6");
  EXPECT_EQ(members[1]->all_gather(three, three, DType::kU8).message(),
            "tp: all_gather of 3 bytes into 8; expected 6");
}

TEST(ThreadFabric, RefusesSizesThatDoNotFit) {
  std::vector<std::byte> three(3), eight(8);
  const auto lone = [] { return std::move(make_thread_group("tp", 1, kPatient)[0]); };

  EXPECT_EQ(lone()->all_gather(three, std::span(eight).first(6), DType::kU8).message(),
            "tp: all_gather of 3 bytes into 6; expected 3");
  EXPECT_EQ(lone()->all_to_all(three, eight, 3, DType::kU8).message(),
            "tp: all_to_all of 3 bytes into 8; expected 3, 1 blocks of 3");
  EXPECT_EQ(lone()->broadcast(three, 1, DType::kU8).message(),
            "tp: broadcast from rank 1 of the group; expected 0..0");
  EXPECT_EQ(lone()->broadcast(three, 0, DType::kF32).message(),
            "tp: broadcast of 3 bytes; expected whole elements of f32");
}

TEST(ThreadFabricDeathTest, EndsTheProcessWhenItIsMisused) {
  EXPECT_DEATH(ThreadWorld(0, kPatient), "a world of 0 ranks");
  EXPECT_DEATH(ThreadFabric(std::make_shared<ThreadWorld>(2, kPatient), 2), "rank 2 of 2");
  EXPECT_DEATH(make_thread_group("tp", 2, kPatient)[0]->fail(Status()), "tp: closed without a reason");
}

}  // namespace
}  // namespace lockstep::comm_test
