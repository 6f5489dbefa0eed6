// The fabric of processes, run as 4 of them: every rank runs every test, and rank 0 tells.
//   mpirun -n 4 comm_mpi_test
#include "comm/fabric_mpi.h"

#include <gtest/gtest.h>

#include <functional>

#include "base/clock.h"
#include "base/fault.h"
#include "comm/registry.h"
#include "comm/test_cases.h"

namespace lockstep::comm_test {
namespace {

constexpr milliseconds kDeadline(3000);

std::unique_ptr<Communicator> split(Fabric& fabric, std::string_view name, int32_t color,
                                    Ledger* ledger = nullptr) {
  auto group = fabric.split(name, color, ledger);
  EXPECT_TRUE(group.ok()) << group.status().message();
  return std::move(*group);
}

Status gather_floats(Communicator& group, size_t count) {
  const std::vector<float> mine(count);
  std::vector<float> all(count * static_cast<size_t>(group.size()));
  return group.all_gather(std::as_bytes(std::span(mine)), std::as_writable_bytes(std::span(all)),
                          DType::kF32);
}

void carries_every_primitive(Fabric& fabric) {
  const auto all = split(fabric, "world", 0), pair = split(fabric, "tp", fabric.rank() / 2);
  EXPECT_EQ(all->size(), 4);
  EXPECT_EQ(pair->size(), 2);
  check_primitives(*all, 41, 150);
  check_primitives(*pair, 42, 150);
}

void equals_the_naive_model(Fabric& fabric) {
  const auto all = split(fabric, "experts", 0), pair = split(fabric, "tp", fabric.rank() / 2);
  check_collectives(*all, 51);
  check_collectives(*pair, 52);
  check_collectives(*all, 53);
}

// Frames end at one size and blocks begin at the next.
void carries_sizes_around_a_frame(Fabric& fabric) {
  const auto all = split(fabric, "world", 0);
  for (size_t bytes = 3780; bytes < 3850; ++bytes) {
    check_all_gather(*all, bytes, bytes);
    check_all_to_all(*all, bytes, bytes);
    check_broadcast(*all, bytes, bytes);
  }
}

void is_a_mesh(Fabric& fabric) {
  Ledger ledger;
  const MeshShape shape{.tp = 2, .dp = 2};
  const MeshPlace place = place_of(shape, fabric.rank());
  const auto dp = split(fabric, "dp", place.tp, &ledger);
  EXPECT_EQ(dp->members()[0], place.tp);
  EXPECT_EQ(dp->members()[1], place.tp + 2);
  EXPECT_EQ(dp->rank(), place.dp);
  EXPECT_TRUE(gather_floats(*dp, 4).ok());
  ASSERT_EQ(ledger.last(5).size(), 1u);
  EXPECT_EQ(ledger.last(5)[0].group, "dp");
}

void names_other_numbers_of_rows(Fabric& fabric) {
  const auto tp = split(fabric, "tp", fabric.rank() / 2);
  const size_t count = fabric.rank() == 3 ? 5000 : 100;

  const Status status = gather_floats(*tp, count);

  if (fabric.rank() < 2) {
    EXPECT_TRUE(status.ok()) << status.message();
    return;
  }
  EXPECT_EQ(
      status.message(),
      "G1 tp: collective 1 is all_gather of 5000 f32 on rank 3; expected all_gather of 100 f32, as on rank "
      "2\n"
      "rank  op          root  dtype  count  collective\n"
      "   2  all_gather     -  f32      100           1\n"
      "   3  all_gather     -  f32     5000           1  differs");
  ASSERT_NE(status.fault(), nullptr);
  EXPECT_EQ(status.fault()->check, "G1");
  EXPECT_EQ(status.fault()->rank, 3);
}

void names_another_op(Fabric& fabric) {
  const auto all = split(fabric, "experts", 0);
  std::vector<std::byte> bytes(64), more(256);

  const Status status =
      fabric.rank() == 1 ? all->broadcast(more, 3, DType::kU8) : all->all_gather(bytes, more, DType::kU8);

  EXPECT_EQ(
      status.message(),
      "G1 experts: collective 1 is broadcast of 256 u8 from rank 3 on rank 1; expected all_gather of 64 u8, "
      "as on rank 0\n"
      "rank  op          root  dtype  count  collective\n"
      "   0  all_gather     -  u8        64           1\n"
      "   1  broadcast      3  u8       256           1  differs\n"
      "   2  all_gather     -  u8        64           1\n"
      "   3  all_gather     -  u8        64           1");
}

void names_who_does_not_come(Fabric& fabric) {
  const auto all = split(fabric, "world", 0), join = split(fabric, "aside", 0);
  constexpr std::string_view kExpected =
      "G1 world: rank 2 did not come to collective 2, all_gather of 5000 f32; expected all 4 ranks within "
      "3000 "
      "ms; the group is closed";
  EXPECT_TRUE(gather_floats(*all, 5000).ok());
  const int64_t start = now_ns();
  if (fabric.rank() != 2) {
    const Status status = gather_floats(*all, 5000);
    EXPECT_EQ(status.message(), kExpected);
    EXPECT_EQ(status.code(), Code::kDevice);
    ASSERT_NE(status.fault(), nullptr);
    EXPECT_EQ(status.fault()->rank, 2);
  } else {
    std::this_thread::sleep_for(kDeadline + milliseconds(500));  // the deadline is what is tested
    EXPECT_EQ(gather_floats(*all, 5000).message(), kExpected) << "who comes too late learns the same";
  }
  EXPECT_LT(seconds_since(start), 5);
  EXPECT_TRUE(gather_floats(*join, 1).ok()) << "other groups go on";
}

void frees_everybody(Fabric& fabric) {
  const auto all = split(fabric, "world", 0);
  const int64_t start = now_ns();
  if (fabric.rank() == 1) {
    std::jthread control([&] { all->fail(error(Code::kDevice, "rank 1 has lost its device")); });
  } else {
    EXPECT_EQ(gather_floats(*all, 30000).message(), "rank 1 has lost its device");
  }
  EXPECT_LT(seconds_since(start), 2.5) << "before any deadline";
}

void joins_once(Fabric&) {
  EXPECT_EQ(make_mpi_fabric(kDeadline).status().message(),
            "mpi: this process has joined its job; expected that once");
}

// A test that is a function of the fabric, which there is one of.
class OnRanks : public ::testing::Test {
 public:
  using Body = void (*)(Fabric&);
  OnRanks(Fabric& fabric, Body body) : fabric_(fabric), body_(body) {}
  void TestBody() override { body_(fabric_); }

 private:
  Fabric& fabric_;
  Body body_;
};

// Ranks that do not tell what went well still tell what did not.
class FailuresOnly : public ::testing::EmptyTestEventListener {
 public:
  explicit FailuresOnly(int32_t rank) : rank_(rank) {}
  void OnTestPartResult(const ::testing::TestPartResult& result) override {
    if (!result.failed()) return;
    std::cerr << "rank " << rank_ << ": " << result.file_name() << ":" << result.line_number() << ": "
              << result.summary() << "\n";
  }

 private:
  int32_t rank_;
};

int run(Fabric& fabric) {
  const std::pair<const char*, OnRanks::Body> tests[] = {
      {"CarriesEveryPrimitiveForRandomSizes", carries_every_primitive},
      {"EqualsTheNaiveModelBitForBitOnEveryRank", equals_the_naive_model},
      {"CarriesSizesAroundAFrame", carries_sizes_around_a_frame},
      {"SplitsTheWorldIntoGroups", is_a_mesh},
      {"NamesTheRankThatBringsAnotherNumberOfRows", names_other_numbers_of_rows},
      {"NamesTheRankThatEntersAnotherOp", names_another_op},
      {"NamesTheRankThatDoesNotCome", names_who_does_not_come},
      {"FreesEverybodyWhenAnotherThreadFails", frees_everybody},
      {"IsJoinedOncePerProcess", joins_once}};
  for (const auto& [name, body] : tests) {
    ::testing::RegisterTest("MpiFabric", name, nullptr, nullptr, __FILE__, __LINE__,
                            [&fabric, run = body]() -> ::testing::Test* { return new OnRanks(fabric, run); });
  }
  auto& listeners = ::testing::UnitTest::GetInstance()->listeners();
  if (fabric.rank() != 0) {
    delete listeners.Release(listeners.default_result_printer());
    listeners.Append(new FailuresOnly(fabric.rank()));
  }
  return RUN_ALL_TESTS();
}

}  // namespace
}  // namespace lockstep::comm_test

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  auto fabric = lockstep::make_mpi_fabric(lockstep::comm_test::kDeadline);
  if (!fabric.ok() || (*fabric)->size() != 4) {
    std::cerr << (fabric.ok() ? "run as 4 ranks" : fabric.status().message()) << "\n";
    return 2;
  }
  return lockstep::comm_test::run(**fabric);
}
