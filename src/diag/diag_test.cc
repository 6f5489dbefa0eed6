#include <gtest/gtest.h>

#include <sstream>
#include <thread>
#include <vector>

#include "diag/counters.h"
#include "diag/progress.h"
#include "diag/step_log.h"

namespace lockstep {
namespace {

// A clock that a test moves by hand.
struct HandClock {
  int64_t now = 0;
  void pass(double seconds) { now += static_cast<int64_t>(seconds * 1e9); }
};

ProgressOptions to(std::ostream& out, const HandClock& clock, bool terminal) {
  return {.out = &out, .terminal = terminal, .clock = [&clock] { return clock.now; }};
}

TEST(Progress, IsSilentForWorkUnderTwoSeconds) {
  HandClock clock;
  std::ostringstream out;
  Progress progress("loading weights", 100, ProgressUnit::kItems, to(out, clock, true));

  for (int i = 0; i < 100; ++i) {
    clock.pass(0.0199);
    progress.advance(1);
  }
  progress.finish();

  EXPECT_EQ(out.str(), "");
}

TEST(Progress, WritesALineEveryFiveSecondsToAFile) {
  HandClock clock;
  std::ostringstream out;
  Progress progress("loading weights", 16'000'000'000, ProgressUnit::kBytes, to(out, clock, false));

  for (int i = 0; i < 8; ++i) {
    clock.pass(1);
    progress.advance(2'000'000'000);
  }
  progress.finish();
  progress.finish();

  EXPECT_EQ(out.str(),
            "loading weights: 4.00 of 16.00 GB (25%), 2.00 GB/s, 6 s left\n"
            "loading weights: 14.00 of 16.00 GB (88%), 2.00 GB/s, 1 s left\n"
            "loading weights: 16.00 GB in 8.0 s, 2.00 GB/s\n");
}

TEST(Progress, RedrawsOneLineOnATerminal) {
  HandClock clock;
  std::ostringstream out;
  {
    Progress progress("proving graphs", 4, ProgressUnit::kItems, to(out, clock, true));
    clock.pass(2);
    progress.advance(2);
    clock.pass(0.05);
    progress.advance(1);
    clock.pass(1.95);
    progress.advance(1);
  }

  EXPECT_EQ(out.str(),
            "\rproving graphs: 2 of 4 (50%), 1/s, 2 s left\x1b[K"
            "\rproving graphs: 4 of 4 (100%), 1/s, 0 s left\x1b[K"
            "\rproving graphs: 4 in 4.0 s, 1/s\x1b[K\n");
}

TEST(Progress, LeavesOutWhatItCannotKnow) {
  HandClock clock;
  std::ostringstream out;
  Progress progress("reading", 0, ProgressUnit::kBytes, to(out, clock, false));

  clock.pass(4);
  progress.advance(3'200'000);

  EXPECT_EQ(out.str(), "reading: 3.2 MB, 800.0 kB/s\n");
}

TEST(Progress, CountsWhatManyThreadsAdvance) {
  HandClock clock;
  std::ostringstream out;
  Progress progress("packing", 4000, ProgressUnit::kItems, to(out, clock, false));
  clock.pass(3);

  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 1000; ++i) progress.advance(1);
    });
  }
  for (std::thread& thread : threads) thread.join();
  progress.finish();

  EXPECT_EQ(progress.done(), 4000);
  EXPECT_TRUE(out.str().ends_with("packing: 4000 in 3.0 s, 1333/s\n")) << out.str();
}

TEST(Counters, KeepEachNameApart) {
  Counters counters;
  Counters::Counter& tokens = counters.of("tokens");

  tokens += 5;
  counters.add("graph_lost{reason=\"shape\"}");
  counters.add("tokens", 2);

  const std::vector<std::pair<std::string, int64_t>> expected = {{"graph_lost{reason=\"shape\"}", 1},
                                                                 {"tokens", 7}};
  EXPECT_EQ(counters.values(), expected);
}

TEST(Counters, LoseNothingAcrossThreads) {
  Counters counters;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 1000; ++i) counters.add(i % 2 == t % 2 ? "a" : "b");
    });
  }
  for (std::thread& thread : threads) thread.join();

  const std::vector<std::pair<std::string, int64_t>> expected = {{"a", 2000}, {"b", 2000}};
  EXPECT_EQ(counters.values(), expected);
}

TEST(StepLog, WritesOneLinePerStep) {
  std::ostringstream out;
  const std::vector<StepPhase> phases = {{"plan", 12'400}, {"run", 903'600}};
  const StepFacts facts{.epoch = Epoch(17),
                        .num_rows = LiveRows(7),
                        .num_rows_padded = PaddedRows(8),
                        .decode_seqs = 7,
                        .prefill_seqs = 0,
                        .pages_used = PageCount(12),
                        .pages_total = PageCount(4096),
                        .graph = true,
                        .bytes = 9'160'000,
                        .phases = phases};

  StepLog(&out).write(facts);
  StepLog(&out).write({.epoch = Epoch(18)});

  EXPECT_EQ(
      out.str(),
      "step 17: rows 7/8 (decode 7, prefill 0), pages 12/4096, graph, plan 12 us, run 904 us, 10.0 GB/s\n"
      "step 18: rows 0/0 (decode 0, prefill 0), pages 0/0, eager\n");
}

TEST(StepLog, IsOffUnlessGivenSomewhereToWrite) {
  EXPECT_FALSE(StepLog().on());
  StepLog().write({});
}

}  // namespace
}  // namespace lockstep
