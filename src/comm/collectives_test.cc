#include "comm/collectives.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "base/fault.h"
#include "comm/test_cases.h"
#include "comm/thread_fabric.h"
#include "device/graph.h"

namespace lockstep::comm_test {
namespace {

using Members = std::vector<std::unique_ptr<Communicator>>;

TEST(Collectives, EqualTheNaiveModelBitForBitOnEveryRank) {
  for (int32_t ranks = 1; ranks <= 8; ++ranks) {
    for (uint64_t seed = 1; seed <= 3; ++seed) {
      Members members = make_thread_group("tp", ranks, kPatient);
      on_threads(ranks, [&](int32_t rank) {
        check_collectives(*members[static_cast<size_t>(rank)], seed * 100 + static_cast<uint64_t>(ranks));
      });
      ASSERT_FALSE(HasFailure()) << ranks << " ranks, seed " << seed;
    }
  }
}

TEST(Collectives, SumTheSameInOneExchangeAsInTwo) {
  // The first kOneExchange numbers of a longer row, which takes two.
  constexpr int64_t kLonger = kOneExchange + 5;
  Members members = make_thread_group("tp", 4, kPatient);
  on_threads(4, [&](int32_t rank) {
    Bench bench;
    std::vector<float> both = floats_of(7, rank, kLonger);
    std::vector<float> one(both.begin(), both.begin() + kOneExchange);
    std::vector<float> scratch(static_cast<size_t>(all_reduce_scratch_bytes(1, kLonger, 4)) / sizeof(float));
    for (auto* x : {&one, &both}) {
      ASSERT_TRUE(all_reduce(bench.launcher(),
                             {.x = view(*x, {1, static_cast<int64_t>(x->size())}),
                              .scratch = view(scratch, {static_cast<int64_t>(scratch.size())}),
                              .group = members[static_cast<size_t>(rank)].get()},
                             "test")
                      .ok());
    }
    EXPECT_TRUE(std::equal(one.begin(), one.end(), both.begin()));
  });
}

TEST(Collectives, NeedNoMoreScratchForFewerRows) {
  for (int32_t ranks = 1; ranks <= 8; ++ranks) {
    for (int64_t rows = 1; rows < 3 * kOneExchange; ++rows)
      ASSERT_LE(all_reduce_scratch_bytes(rows - 1, 1, ranks), all_reduce_scratch_bytes(rows, 1, ranks))
          << rows;
  }
}

TEST(Collectives, LeaveNaNBehindWhenTheExchangeFails) {
  Members members = make_thread_group("tp", 2, kPatient);
  members[0]->fail(error(Code::kDevice, "gone"));
  Bench bench;
  std::vector<float> x(4, 1), rows(8, 1), columns(6, 1), scratch(64);
  std::vector<int32_t> ids{1, 2}, all_ids(4, 7);
  const TensorView space = view(scratch, {64});
  Communicator* group = members[0].get();
  const Launcher on = bench.launcher();

  ASSERT_TRUE(scatter_sum(on,
                          {.x = view(rows, {4, 2}), .out = view(x, {2, 2}), .scratch = space, .group = group},
                          "test")
                  .ok());
  ASSERT_TRUE(gather_columns(
                  on,
                  {.x = view(rows, {2, 2}), .out = view(columns, {2, 3}), .scratch = space, .group = group},
                  "test")
                  .ok());
  ASSERT_TRUE(
      gather_rows_of_ranks(on, {.x = view(ids, {1, 2}), .out = view(all_ids, {2, 2}), .group = group}, "test")
          .ok());
  ASSERT_TRUE(all_reduce(on, {.x = view(rows, {4, 2}), .scratch = space, .group = group}, "test").ok());

  for (const auto* values : {&x, &rows, &columns}) {
    for (const float value : *values) EXPECT_TRUE(std::isnan(value));
  }
  EXPECT_EQ(all_ids, (std::vector<int32_t>{-1, -1, -1, -1}));
  EXPECT_EQ(group->status().message(), "gone");
}

TEST(Collectives, OfARankWithoutRowsAreEnteredAllTheSame) {
  Members members = make_thread_group("tp", 2, kPatient);
  on_threads(2, [&](int32_t rank) {
    Bench bench;
    std::vector<float> x(8), scratch(64);
    Communicator* group = members[static_cast<size_t>(rank)].get();

    ASSERT_TRUE(
        all_reduce(bench.launcher(),
                   {.x = view(x, {rank == 0 ? 0 : 2, 4}), .scratch = view(scratch, {64}), .group = group},
                   "test")
            .ok());

    EXPECT_EQ(
        group->status().message(),
        "G1 tp: collective 1 is all_gather of 8 f32 at test on rank 1; expected all_gather of 0 f32 at test, "
        "as on rank 0\n"
        "rank  op          root  dtype  count  collective  of\n"
        "   0  all_gather     -  f32        0           1  test\n"
        "   1  all_gather     -  f32        8           1  test  differs");
  });
}

TEST(Collectives, InAGraphAreReplayedAndEnteredInTheLedgerEachTime) {
  std::vector<Ledger> ledgers(3);
  Members members = make_thread_group("tp", 3, kPatient, ledgers);
  on_threads(3, [&](int32_t rank) {
    const auto at = static_cast<size_t>(rank);
    Bench bench;
    std::vector<float> x(6), all(18), scratch(64);
    const Launcher on = bench.launcher();
    Graph graph;
    ASSERT_TRUE(bench.stream.begin_capture(graph).ok());
    ASSERT_TRUE(all_reduce(on,
                           {.x = view(x, {2, 3}), .scratch = view(scratch, {64}), .group = members[at].get()},
                           "test")
                    .ok());
    ASSERT_TRUE(gather_rows_of_ranks(
                    on, {.x = view(x, {2, 3}), .out = view(all, {6, 3}), .group = members[at].get()}, "test")
                    .ok());
    bench.stream.end_capture();
    EXPECT_EQ(ledgers[at].entered(), 0u) << "a capture runs nothing";

    for (uint64_t step = 1; step <= 3; ++step) {
      ledgers[at].begin_step(step);
      std::ranges::copy(floats_of(step, rank, 6), x.begin());
      ASSERT_TRUE(bench.stream.replay(graph).ok());
      bench.stream.synchronize();
      EXPECT_EQ(x, sum_of_ranks(step, 3, 6));
      for (size_t i = 0; i < all.size(); ++i) EXPECT_EQ(all[i], x[i % 6]);
    }

    const std::vector<CollectiveEntry> entries = ledgers[at].last(10);
    ASSERT_EQ(entries.size(), 6u);
    for (size_t i = 0; i < entries.size(); ++i) {
      EXPECT_EQ(entries[i].epoch, i / 2 + 1);
      EXPECT_EQ(entries[i].count, 6);
      EXPECT_TRUE(entries[i].finished);
    }
  });
}

TEST(Collectives, DescribeEveryMemberOfTheirArgs) {
  for (const OpSpec* spec :
       {&kAllReduceSpec, &kGatherRowsOfRanksSpec, &kScatterSumSpec, &kGatherColumnsSpec}) {
    int32_t end = 0;
    for (const OpArg& arg : spec->args) {
      EXPECT_EQ(arg.offset, end) << spec->name << "." << arg.name;
      end = arg.offset + arg.bytes;
    }
    EXPECT_EQ(spec->args_bytes, end) << spec->name;
    EXPECT_TRUE(spec->collective) << spec->name;
  }
}

TEST(Collectives, RefuseWhatDoesNotFit) {
  Members members = make_thread_group("tp", 2, kPatient);
  Communicator* group = members[0].get();
  Bench bench;
  const Launcher on = bench.launcher();
  std::vector<float> x(64), out(64), scratch(64);
  std::vector<uint8_t> small(15);
  const TensorView wide = view(x, {4, 8}), space = view(scratch, {64});

  EXPECT_EQ(all_reduce(on, {.x = view(small, {15, 1}), .scratch = space, .group = group}, "t").message(),
            "all_reduce: x is u8; expected f32");
  EXPECT_EQ(all_reduce(on, {.x = wide.columns(0, 4), .scratch = space, .group = group}, "t").message(),
            "all_reduce: x [4, 4] has gaps between its rows; expected them side by side");
  EXPECT_EQ(
      all_reduce(on, {.x = view(x, {1, 2}), .scratch = view(small, {15}), .group = group}, "t").message(),
      "all_reduce: workspace has 15 bytes; expected at least 16");
  EXPECT_EQ(gather_rows_of_ranks(on, {.x = view(x, {3, 2}), .out = view(out, {5, 2}), .group = group}, "t")
                .message(),
            "gather_rows_of_ranks: out has 5 rows; expected 6, those of 2 ranks");
  EXPECT_EQ(gather_rows_of_ranks(on, {.x = view(x, {3, 2}), .out = view(small, {6, 2}), .group = group}, "t")
                .message(),
            "gather_rows_of_ranks: out is u8; expected f32");
  EXPECT_EQ(
      scatter_sum(on, {.x = view(x, {5, 2}), .out = view(out, {2, 2}), .scratch = space, .group = group}, "t")
          .message(),
      "scatter_sum: x has 5 rows; expected 4, those of 2 ranks");
  EXPECT_EQ(gather_columns(
                on, {.x = view(x, {2, 3}), .out = view(out, {2, 7}), .scratch = space, .group = group}, "t")
                .message(),
            "gather_columns: out has 7 columns; expected at most 6, 3 of each rank");
  EXPECT_TRUE(group->status().ok()) << "what was never entered closes nothing";
}

}  // namespace
}  // namespace lockstep::comm_test
