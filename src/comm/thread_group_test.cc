#include "comm/thread_group.h"

#include <gtest/gtest.h>

#include <cstring>
#include <latch>
#include <thread>

#include "base/fault.h"

namespace lockstep {
namespace {

using std::chrono::milliseconds;
using Outcome = Result<std::vector<std::byte>>;

constexpr milliseconds kPatient(20000);  // longer than any test that does not want to time out

std::vector<std::byte> bytes_of(int64_t value) {
  std::vector<std::byte> bytes(sizeof(value));
  std::memcpy(bytes.data(), &value, sizeof(value));
  return bytes;
}

std::vector<int64_t> values_of(const std::vector<std::byte>& bytes) {
  std::vector<int64_t> values(bytes.size() / sizeof(int64_t));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

// Runs `rank(r)` for each of `ranks` on a thread of its own, to the end.
template <typename Rank>
void on_threads(std::initializer_list<int32_t> ranks, Rank rank) {
  std::latch start(
      static_cast<std::ptrdiff_t>(ranks.size()));  // so that no deadline runs while threads are made
  std::vector<std::jthread> threads;
  for (const int32_t r : ranks) {
    threads.emplace_back([&start, &rank, r] {
      start.arrive_and_wait();
      rank(r);
    });
  }
}

TEST(ThreadGroup, GivesEveryRankWhatAllHaveBroughtInOrderOfRanks) {
  ThreadGroup group(4, kPatient);
  std::vector<std::vector<int64_t>> seen(4);

  on_threads({0, 1, 2, 3}, [&](int32_t rank) {
    for (int64_t i = 0; i < 500; ++i) {
      const Outcome all = group.exchange(rank, bytes_of(i * 10 + rank));
      ASSERT_TRUE(all.ok()) << all.status().message();
      ASSERT_EQ(values_of(*all), (std::vector<int64_t>{i * 10, i * 10 + 1, i * 10 + 2, i * 10 + 3}));
      seen[static_cast<size_t>(rank)].push_back(i);
    }
  });

  for (const std::vector<int64_t>& exchanges : seen) EXPECT_EQ(exchanges.size(), 500u);
}

TEST(ThreadGroup, OfOneRankWaitsForNobody) {
  ThreadGroup group(1, milliseconds(0));

  const Outcome all = group.exchange(0, bytes_of(7));

  ASSERT_TRUE(all.ok()) << all.status().message();
  EXPECT_EQ(values_of(*all), (std::vector<int64_t>{7}));
  EXPECT_TRUE(group.exchange(0, {}).ok()) << "nothing to say is fine too";
}

TEST(ThreadGroup, NamesTheRanksThatDoNotCome) {
  ThreadGroup group(4, milliseconds(300));
  std::vector<std::string> said(4);

  on_threads({0, 1, 2, 3}, [&](int32_t rank) {
    ASSERT_TRUE(group.exchange(rank, bytes_of(rank)).ok());
    if (rank == 0 || rank == 3) said[static_cast<size_t>(rank)] = group.exchange(rank, {}).status().message();
  });

  EXPECT_EQ(
      said[0],
      "rank 1, rank 2 did not arrive at exchange 2; expected all 4 ranks within 300 ms; the group is closed");
  EXPECT_EQ(said[3], said[0]);
  const Outcome late = group.exchange(1, {});
  EXPECT_EQ(late.status().code(), Code::kDevice);
  EXPECT_EQ(late.status().message(), said[0]) << "who comes too late learns the same";
  ASSERT_NE(late.status().fault(), nullptr);
  EXPECT_EQ(late.status().fault()->check, "G1");
  EXPECT_EQ(late.status().fault()->field, "participation");
  EXPECT_EQ(late.status().fault()->rank, 1);
  EXPECT_EQ(late.status().fault()->found, "without rank 1, rank 2 at exchange 2");
}

TEST(ThreadGroup, NamesARankThatBringsAnotherNumberOfBytes) {
  ThreadGroup group(3, kPatient);
  std::vector<Status> said(3);

  on_threads({0, 1, 2}, [&](int32_t rank) {
    const std::vector<std::byte> bytes(rank == 1 ? 3 : 8);
    said[static_cast<size_t>(rank)] = group.exchange(rank, bytes).status();
  });

  for (const Status& status : said) {
    EXPECT_EQ(status.code(), Code::kInternal);
    EXPECT_EQ(status.message(), "G1 exchange 1 is 3 bytes from rank 1; expected 8, as from rank 0");
  }
}

TEST(ThreadGroupDeathTest, EndsTheProcessWhenItIsMisused) {
  EXPECT_DEATH(ThreadGroup(0, kPatient), "a group of 0 ranks");
  ThreadGroup group(2, kPatient);
  EXPECT_DEATH((void)group.exchange(2, {}), "rank 2 of 2");
  EXPECT_DEATH((void)group.exchange(-1, {}), "rank -1 of 2");
}

}  // namespace
}  // namespace lockstep
