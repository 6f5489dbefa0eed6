#include "kernels/plan_check/plan_check.h"

#include <gtest/gtest.h>

#include "base/digest.h"
#include "base/table_digest.h"
#include "kernels/common/test_support.h"

namespace lockstep {
namespace {

using namespace testing;

const KernelTable& table() { return kernel_table(Isa::kReference); }

std::vector<unsigned char> random_image(size_t size, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<unsigned char> bytes(size);
  for (unsigned char& byte : bytes) byte = static_cast<unsigned char>(random());
  return bytes;
}

struct DigestProblem {
  std::vector<unsigned char> image = random_image(300, 1);
  std::vector<int64_t> ranges = {0, 300, 8, 0, 17, 100, 236, 64};
  std::vector<uint64_t> out = std::vector<uint64_t>(5, 7);
  Epoch epoch{uint64_t{1} << 40};

  PlanDigestArgs args() {
    return {.image = view(image, {static_cast<int64_t>(image.size())}),
            .ranges = view(ranges, {4, 2}),
            .out = view(out, {5}),
            .epoch = &epoch};
  }
  Status run() {
    Stream stream(2);
    return plan_digest({table(), stream}, args(), "test");
  }
};

TEST(PlanDigest, SaysTheEpochAndTheDigestOfEachRange) {
  DigestProblem problem;

  ASSERT_TRUE(problem.run().ok());

  const unsigned char* image = problem.image.data();
  EXPECT_EQ(problem.out,
            (std::vector<uint64_t>{uint64_t{1} << 40, digest_bytes(image, 300), digest_bytes(image, 0),
                                   digest_bytes(image + 17, 100), digest_bytes(image + 236, 64)}));
}

TEST(PlanDigest, ChangesWithEachBitOfARangeAndNoOther) {
  DigestProblem problem;
  ASSERT_TRUE(problem.run().ok());
  const std::vector<uint64_t> before = problem.out;

  problem.image[116] ^= 0x10;
  ASSERT_TRUE(problem.run().ok());

  EXPECT_NE(problem.out[1], before[1]);
  EXPECT_EQ(problem.out[2], before[2]);
  EXPECT_NE(problem.out[3], before[3]);
  EXPECT_EQ(problem.out[4], before[4]);
}

// Which a device looks at in pieces; aligned and not, with and without a rest.
TEST(PlanDigest, TakesRangesOfAnySize) {
  DigestProblem problem;
  problem.image = random_image(50000, 2);
  problem.ranges = {0, 50000, 16, 32768, 3, 40001, 32, 16384 + 56};

  ASSERT_TRUE(problem.run().ok());

  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(problem.out[1 + i], digest_bytes(problem.image.data() + problem.ranges[2 * i],
                                               static_cast<size_t>(problem.ranges[2 * i + 1])));
  }
}

TEST(PlanDigest, ReadsNothingOutsideTheImage) {
  const int64_t far = std::numeric_limits<int64_t>::max();
  DigestProblem problem;
  problem.ranges = {-1, 10, 1, 300, 10, -1, far, far};

  ASSERT_TRUE(problem.run().ok());

  EXPECT_EQ(problem.out, (std::vector<uint64_t>{uint64_t{1} << 40, 0, 0, 0, 0}));
}

TEST(PlanDigest, NamesWhatDoesNotFit) {
  DigestProblem problem;
  Stream stream(1);
  const auto refusal = [&](const PlanDigestArgs& args, const KernelTable& from) {
    return plan_digest({from, stream}, args, "test").message();
  };
  PlanDigestArgs out = problem.args(), ranges = out, epoch = out, gaps = out, dtype = out;
  out.out = view(problem.out, {4});
  ranges.ranges = view(problem.ranges, {2, 4});
  epoch.epoch = nullptr;
  gaps.ranges = view(problem.ranges, {2, 4}).columns(0, 2);
  gaps.out = view(problem.out, {3});
  dtype.image.dtype = DType::kI32;

  EXPECT_EQ(refusal(out, table()), "plan_digest: out has shape [4]; expected [5]");
  EXPECT_EQ(refusal(ranges, table()), "plan_digest: ranges has shape [2, 4]; expected [2, 2]");
  EXPECT_EQ(refusal(epoch, table()), "plan_digest: epoch is null; expected the address of a count");
  EXPECT_EQ(refusal(gaps, table()), "plan_digest: ranges [2, 2] have gaps between them; expected none");
  EXPECT_EQ(refusal(dtype, table()), "plan_digest: image is i32; expected u8");
  EXPECT_EQ(
      refusal(problem.args(), KernelTable{.name = "empty"}),
      "plan_digest: the kernel table empty has no such kernel; use the table of another instruction set");
}

// Three live sequences of 1, 4 and 2 rows and a pad sequence, on pages of 4 tokens.
struct StructureProblem {
  std::vector<int32_t> starts = {0, 1, 5, 7, 9};
  std::vector<int32_t> lens = {9, 4, 6, 2};
  std::vector<int32_t> table_rows = {2, 1, 4, 0};
  std::vector<uint64_t> digests = std::vector<uint64_t>(4, 0);
  // Entries past a sequence's pages are nobody's: -1 here, and they do not matter.
  std::vector<int32_t> pages = {0, 0, 0, 7, -1, -1, 3, 5, 6, -1, -1, -1, 1, 2, -1};
  std::vector<int64_t> out = std::vector<int64_t>(4, -7);
  Epoch epoch{5};
  LiveRows num_rows{7};
  LiveSeqs num_seqs{3};
  int32_t tables = 3;

  StructureProblem() {
    for (size_t s = 0; s < 3; ++s) {
      const auto count = (lens[s] + 3) / 4;
      for (int32_t i = 0; i < count; ++i) digests[s] ^= table_entry_digest(i, PageId(*page(s, i)));
    }
    digests[3] = 99;  // of the pad sequence, which is not looked at
  }

  int32_t* page(size_t sequence, int32_t i) { return pages.data() + 3 * table_rows[sequence] + i; }
  PlanStructureArgs args() {
    return {.query_start_loc = view(starts, {5}),
            .seq_lens = view(lens, {4}),
            .table_rows = view(table_rows, {4}),
            .table_digests = view(digests, {4}),
            .page_table = view(pages, {5, 3}),
            .out = view(out, {4}),
            .epoch = &epoch,
            .num_rows = &num_rows,
            .num_seqs = &num_seqs,
            .page_tokens = 4,
            .num_pages = 8,
            .tables = tables};
  }
  // What the op finds: rule, index, found, expected.
  std::vector<int64_t> run(const PlanStructureArgs& given) {
    Stream stream(2);
    EXPECT_EQ(plan_structure({table(), stream}, given, "test").message(), "");
    return out;
  }
  std::vector<int64_t> run() { return run(args()); }
};

std::vector<int64_t> finding(StructureRule rule, int64_t index, int64_t found, int64_t expected) {
  return {static_cast<int64_t>(rule), index, found, expected};
}
const std::vector<int64_t> kFine = {0, 0, 0, 0};

TEST(PlanStructure, HoldsForAPlanAsItShouldBe) {
  StructureProblem problem;
  EXPECT_EQ(problem.run(), kFine);

  problem.num_seqs = LiveSeqs(0);
  problem.num_rows = LiveRows(0);
  EXPECT_EQ(problem.run(), kFine);
}

TEST(PlanStructure, HoldsForAPlanWithoutPages) {
  StructureProblem problem;
  problem.digests[0] = 1;
  PlanStructureArgs args = problem.args();
  args.table_rows = args.table_digests = args.page_table = {};

  EXPECT_EQ(problem.run(args), kFine);
}

TEST(PlanStructure, FindsSequencesThatTheBucketDoesNotHave) {
  StructureProblem problem;
  problem.num_seqs = LiveSeqs(5);
  EXPECT_EQ(problem.run(), finding(StructureRule::kSequencesFit, 0, 5, 4));
  problem.num_seqs = LiveSeqs(-1);
  EXPECT_EQ(problem.run(), finding(StructureRule::kSequencesFit, 0, -1, 4));
}

TEST(PlanStructure, FindsRowsThatBelongToNobody) {
  StructureProblem late, falling, early, many;
  late.starts[0] = 1;
  falling.starts[2] = 0;
  early.starts[3] = 6;
  many.num_rows = LiveRows(6);

  EXPECT_EQ(late.run(), finding(StructureRule::kStartsAtZero, 0, 1, 0));
  EXPECT_EQ(falling.run(), finding(StructureRule::kNeverFalls, 2, 0, 1));
  EXPECT_EQ(early.run(), finding(StructureRule::kEndsAtNumRows, 3, 6, 7));
  EXPECT_EQ(many.run(), finding(StructureRule::kEndsAtNumRows, 3, 7, 6));
}

TEST(PlanStructure, FindsALengthWithoutItsRows) {
  StructureProblem problem;
  problem.lens[1] = 3;
  EXPECT_EQ(problem.run(), finding(StructureRule::kRowsFitLength, 1, 3, 4));
}

TEST(PlanStructure, FindsATableRowThatIsNotThere) {
  for (const int32_t row : {-1, 0, 5, std::numeric_limits<int32_t>::max()}) {
    StructureProblem problem;
    problem.table_rows[2] = row;
    EXPECT_EQ(problem.run(), finding(StructureRule::kTableRowExists, 2, row, 5));
  }
}

TEST(PlanStructure, FindsALengthThatItsTableCannotHold) {
  StructureProblem problem;
  problem.lens[2] = std::numeric_limits<int32_t>::max();
  EXPECT_EQ(problem.run(), finding(StructureRule::kPagesFitTable, 2, int64_t{1} << 29, 3));
}

TEST(PlanStructure, FindsAPageThatIsNotInThePool) {
  for (const int32_t page : {-1, 0, 8, std::numeric_limits<int32_t>::max()}) {
    StructureProblem problem;
    *problem.page(0, 2) = page;
    EXPECT_EQ(problem.run(), finding(StructureRule::kPageExists, 2 * 3 + 2, page, 8));
  }
}

TEST(PlanStructure, FindsAPageOfSomebodyElse) {
  StructureProblem problem;
  const uint64_t right = problem.digests[0];
  *problem.page(0, 1) = 4;
  const uint64_t found = right ^ table_entry_digest(1, PageId(5)) ^ table_entry_digest(1, PageId(4));

  EXPECT_EQ(problem.run(), finding(StructureRule::kTableDigest, 0, static_cast<int64_t>(found),
                                   static_cast<int64_t>(right)));
}

TEST(PlanStructure, FindsPagesInAnotherOrder) {
  StructureProblem problem;
  std::swap(*problem.page(0, 0), *problem.page(0, 1));
  EXPECT_EQ(problem.run()[0], static_cast<int64_t>(StructureRule::kTableDigest));
}

TEST(PlanStructure, LooksAtEachTableInItsTurn) {
  // Table 2 is broken; of three live sequences one or two have their turn.
  for (const int32_t tables : {0, 1, 2, 3, 100}) {
    std::vector<bool> found;
    for (uint64_t epoch = 6; epoch < 9; ++epoch) {
      StructureProblem problem;
      problem.digests[2] ^= 1;
      problem.tables = tables;
      problem.epoch = Epoch(epoch);
      found.push_back(problem.run() != kFine);
    }
    const std::vector<bool> expected = tables == 0   ? std::vector<bool>{false, false, false}
                                       : tables == 1 ? std::vector<bool>{false, false, true}
                                       : tables == 2 ? std::vector<bool>{false, true, true}
                                                     : std::vector<bool>{true, true, true};
    EXPECT_EQ(found, expected) << tables << " tables a step";
  }
}

TEST(PlanStructure, NamesWhatDoesNotFit) {
  StructureProblem problem;
  Stream stream(1);
  const auto refusal = [&](const PlanStructureArgs& args, const KernelTable& from) {
    return plan_structure({from, stream}, args, "test").message();
  };
  PlanStructureArgs starts = problem.args(), out = starts, half = starts, pages = starts, rows = starts,
                    digests = starts;
  starts.query_start_loc = view(problem.starts, {4});
  out.out = view(problem.out, {3});
  half.page_table = {};
  pages.page_tokens = 0;
  rows.num_rows = nullptr;
  digests.table_digests = view(problem.digests, {3});

  EXPECT_EQ(refusal(starts, table()), "plan_structure: query_start_loc has shape [4]; expected [5]");
  EXPECT_EQ(refusal(out, table()), "plan_structure: out has shape [3]; expected [4]");
  EXPECT_EQ(refusal(half, table()),
            "plan_structure: one of table_rows, table_digests and page_table has no memory; expected all "
            "three or none");
  EXPECT_EQ(refusal(pages, table()),
            "plan_structure: 3 tables of pages of 0 tokens in a pool of 8; expected 0 tables or more, and at "
            "least 1 token and page");
  EXPECT_EQ(refusal(rows, table()), "plan_structure: num_rows is null; expected the address of a count");
  EXPECT_EQ(refusal(digests, table()),
            "plan_structure: table_digests has shape [3]; expected S = 4 as in seq_lens [4]");
  EXPECT_EQ(
      refusal(problem.args(), KernelTable{.name = "empty"}),
      "plan_structure: the kernel table empty has no such kernel; use the table of another instruction set");
}

TEST(PlanStructure, NamesEachRule) {
  std::vector<std::string_view> names;
  for (auto rule = int64_t{0}; rule <= static_cast<int64_t>(StructureRule::kTableDigest); ++rule) {
    const auto name = name_of(static_cast<StructureRule>(rule));
    EXPECT_NE(name, "no such rule") << rule;
    EXPECT_EQ(check_of(static_cast<StructureRule>(rule)).empty(), rule == 0) << name;
    for (const std::string_view other : names) EXPECT_NE(other, name);
    names.push_back(name);
  }
}

}  // namespace
}  // namespace lockstep
