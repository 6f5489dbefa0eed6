#include "device/thread_pool.h"

#include <gtest/gtest.h>
#include <time.h>

#include <array>
#include <chrono>
#include <vector>

namespace lockstep {
namespace {

constexpr int kMostThreads = 8;

// Each part counts itself; no two parts touch the same line.
struct alignas(64) Count {
  int64_t runs = 0;
  int count = 0;
};
using Counts = std::array<Count, kMostThreads>;

void count_part(const void* args, Worker worker) {
  Counts& counts = **static_cast<Counts* const*>(args);
  Count& mine = counts[static_cast<size_t>(worker.index)];
  ++mine.runs;
  mine.count = worker.count;
}

void launch_and_check(ThreadPool& pool, int64_t launches) {
  Counts counts{};
  Counts* args = &counts;
  for (int64_t i = 1; i <= launches; ++i) {
    pool.run(count_part, &args);
    for (int part = 0; part < kMostThreads; ++part) {
      // Read right after run(): all parts must be done by then.
      ASSERT_EQ(counts[static_cast<size_t>(part)].runs, part < pool.size() ? i : 0)
          << "part " << part << " of " << pool.size();
    }
  }
  for (int part = 0; part < pool.size(); ++part)
    EXPECT_EQ(counts[static_cast<size_t>(part)].count, pool.size());
}

TEST(ThreadPool, RunsEveryPartOfEveryLaunchExactlyOnce) {
  for (int threads = 1; threads <= kMostThreads; ++threads) {
    ThreadPool pool(threads);
    ASSERT_EQ(pool.size(), threads);
    launch_and_check(pool, 200);
  }
}

TEST(ThreadPool, RunsThousandsOfLaunches) {
  ThreadPool pool(2);
  launch_and_check(pool, 5000);
}

TEST(ThreadPool, StartsTheOthersAndWaitsForThemBeforeAnythingElse) {
  for (int threads = 1; threads <= 4; ++threads) {
    ThreadPool pool(threads);
    Counts counts{};
    Counts* args = &counts;
    for (int64_t i = 1; i <= 200; ++i) {
      pool.start(count_part, &args);
      pool.wait();
      for (int part = 0; part < kMostThreads; ++part)
        ASSERT_EQ(counts[static_cast<size_t>(part)].runs, part > 0 && part < threads ? i : 0) << part;
    }
    pool.start(count_part, &args);
    pool.run(count_part, &args);  // waits itself
    EXPECT_EQ(counts[0].runs, 1);
    if (threads > 1) {
      EXPECT_EQ(counts[1].runs, 202);
    }
    pool.start(count_part, &args);  // and so does its end
  }
}

TEST(ThreadPool, HasAtLeastTheCallersThread) {
  ThreadPool pool(0);
  EXPECT_EQ(pool.size(), 1);
  launch_and_check(pool, 3);
}

double process_cpu_seconds() {
  timespec time{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

TEST(ThreadPool, SleepsWhenIdleAndWakesForTheNextLaunch) {
  ThreadPool pool(4);
  launch_and_check(pool, 10);
  for (int round = 0; round < 3; ++round) {
    const double before = process_cpu_seconds();
    std::this_thread::sleep_for(std::chrono::milliseconds(60));
    // Three polling threads would take up to 60 ms each; before they sleep they poll for about 20 us.
    EXPECT_LT(process_cpu_seconds() - before, 0.02) << "round " << round;
    launch_and_check(pool, 1);
  }
}

TEST(ThreadPool, StartsAndEndsWithoutALaunch) {
  for (int i = 0; i < 50; ++i) ThreadPool pool(3);
}

TEST(ThreadPool, MakesWhatOneLaunchWroteVisibleToAllPartsOfTheNext) {
  ThreadPool pool(4);
  struct Args {
    std::vector<int64_t>* values;
    std::vector<int64_t>* sums;
  };
  std::vector<int64_t> values(4), sums(4);
  const Args args{&values, &sums};
  for (int64_t i = 1; i <= 300; ++i) {
    pool.run(
        [](const void* bytes, Worker worker) {
          (*static_cast<const Args*>(bytes)->values)[static_cast<size_t>(worker.index)] += worker.index + 1;
        },
        &args);
    pool.run(
        [](const void* bytes, Worker worker) {
          const auto& a = *static_cast<const Args*>(bytes);
          int64_t sum = 0;
          for (const int64_t value : *a.values) sum += value;
          (*a.sums)[static_cast<size_t>(worker.index)] = sum;
        },
        &args);
    for (const int64_t sum : sums) ASSERT_EQ(sum, 10 * i);
  }
}

TEST(Worker, SharesEveryItemOnceInUnitsOfTheGrain) {
  for (const int64_t total : {0, 1, 5, 63, 64, 65, 1000}) {
    for (const int64_t grain : {1, 3, 16, 64}) {
      for (int count = 1; count <= kMostThreads; ++count) {
        int64_t next = 0;
        for (int index = 0; index < count; ++index) {
          const Worker::Range mine = Worker{index, count}.share(total, grain);
          EXPECT_EQ(mine.begin, next);
          EXPECT_GE(mine.end, mine.begin);
          EXPECT_TRUE(mine.begin % grain == 0 || mine.begin == total);
          next = mine.end;
        }
        EXPECT_EQ(next, total) << "grain " << grain << ", " << count << " workers";
      }
    }
  }
}

}  // namespace
}  // namespace lockstep
