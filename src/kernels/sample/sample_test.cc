#include "kernels/sample/sample.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <numeric>

#include "kernels/sample/sample_problem.h"

namespace lockstep {
namespace {

using namespace testing;  // NOLINT

constexpr float kInfinity = std::numeric_limits<float>::infinity();

template <typename T>
bool same_bytes(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

void expect_same_outputs(const SampleProblem& a, const SampleProblem& b, const std::string& what) {
  EXPECT_EQ(a.tokens, b.tokens) << what;
  EXPECT_EQ(a.non_finite, b.non_finite) << what;
  EXPECT_EQ(a.top_tokens, b.top_tokens) << what;
  EXPECT_TRUE(same_bytes(a.token_logprob, b.token_logprob)) << what;
  EXPECT_TRUE(same_bytes(a.top_logprobs, b.top_logprobs)) << what;
}

TEST(Sample, TakesTheLargestLogitAndTheLowerOfEquals) {
  for (const KernelTable* table : runnable_tables()) {
    for (const int64_t columns : {1, 2, 16, 31, 64, 65, 127, 1000}) {
      SampleProblem problem(3, columns);
      for (int64_t r = 0; r < 3; ++r) std::fill_n(problem.row(r), columns, -5.0f);
      problem.row(0)[columns - 1] = -4;
      problem.row(1)[columns / 2] = problem.row(1)[columns - 1] = 3;
      ASSERT_TRUE(problem.run(*table).ok());
      const auto last = static_cast<int32_t>(columns - 1);
      EXPECT_EQ(problem.tokens, (std::vector<int32_t>{last, static_cast<int32_t>(columns / 2), 0}))
          << table->name << " " << columns;
      EXPECT_EQ(problem.non_finite, (std::vector<int32_t>{0, 0, 0}));
    }
  }
}

TEST(Sample, NeverDrawsOrCountsColumnsPastTheVocabulary) {
  for (const KernelTable* table : runnable_tables()) {
    SampleProblem problem(40, 100);
    problem.vocab_size = 70;
    for (int64_t r = 0; r < 40; ++r) {
      std::fill_n(problem.row(r) + 70, 30, r % 2 == 0 ? 1000.0f : kNan);
      problem.temperature[static_cast<size_t>(r)] = r < 10 ? 0.0f : 50.0f;
      problem.top_k[static_cast<size_t>(r)] = r < 20 ? 0 : 60;
      problem.top_p[static_cast<size_t>(r)] = r < 30 ? 1.0f : 0.9f;
      problem.seed[static_cast<size_t>(r)] = static_cast<uint64_t>(r);
      problem.logprobs[static_cast<size_t>(r)] = 4;
    }
    ASSERT_TRUE(problem.run(*table).ok());
    for (size_t r = 0; r < 40; ++r) {
      EXPECT_GE(problem.tokens[r], 0) << table->name;
      EXPECT_LT(problem.tokens[r], 70) << table->name;
      EXPECT_EQ(problem.non_finite[r], 0) << table->name;
      EXPECT_NEAR(problem.token_logprob[r], -std::log(70.0f), 1e-5f) << table->name;
      EXPECT_EQ(problem.top_tokens[4 * r + 3], 3) << table->name;
    }
  }
}

TEST(Sample, CountsWhatIsNotFiniteAndDrawsNothingThere) {
  for (const KernelTable* table : runnable_tables()) {
    for (const float temperature : {0.0f, 1.0f}) {
      SampleProblem problem(4, 100);
      std::fill(problem.temperature.begin(), problem.temperature.end(), temperature);
      std::fill(problem.logprobs.begin(), problem.logprobs.end(), 2);
      problem.row(0)[99] = kNan;
      problem.row(1)[0] = problem.row(1)[50] = kInfinity;
      problem.row(2)[7] = problem.row(2)[8] = problem.row(2)[98] = -kInfinity;
      problem.row(3)[7] = std::numeric_limits<float>::lowest();
      problem.row(3)[9] = std::numeric_limits<float>::max();
      ASSERT_TRUE(problem.run(*table).ok());
      EXPECT_EQ(problem.tokens, (std::vector<int32_t>{-1, -1, -1, 9})) << table->name;
      EXPECT_EQ(problem.non_finite, (std::vector<int32_t>{1, 2, 3, 0})) << table->name;
      EXPECT_EQ(problem.token_logprob, (std::vector<float>{0, 0, 0, 0})) << table->name;
      EXPECT_EQ(problem.top_tokens,
                (std::vector<int32_t>{-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 9, 0, -1, -1}))
          << table->name;
    }
  }
}

TEST(Sample, WritesMinusOneAndZerosToPadRows) {
  for (const KernelTable* table : runnable_tables()) {
    SampleProblem problem(5, 37);
    problem.live = LiveRows(2);
    std::fill(problem.row(2), problem.row(4) + 37, kNan);
    std::fill(problem.logprobs.begin(), problem.logprobs.end(), 4);
    ASSERT_TRUE(problem.run(*table, 2).ok());
    EXPECT_EQ(problem.tokens, (std::vector<int32_t>{0, 0, -1, -1, -1})) << table->name;
    EXPECT_EQ(problem.non_finite, (std::vector<int32_t>(5, 0))) << table->name;
    for (size_t i = 8; i < 20; ++i) {
      EXPECT_EQ(problem.top_tokens[i], -1) << table->name;
      EXPECT_EQ(problem.top_logprobs[i], 0.0f) << table->name;
    }
    for (size_t r = 2; r < 5; ++r) EXPECT_EQ(problem.token_logprob[r], 0.0f) << table->name;
  }
}

TEST(Sample, PenalisesAlsoWhereItIsGreedyButCutsNothingThere) {
  for (const KernelTable* table : runnable_tables()) {
    SampleProblem problem(4, 40);
    for (int64_t r = 0; r < 4; ++r) {
      problem.row(r)[30] = 4;
      problem.row(r)[31] = 3;
      problem.row(r)[32] = 2.5f;
    }
    // Slot 1: token 30 twice in the output, 31 in the prompt. Rows 1 to 3 ask for one penalty each.
    std::fill(problem.penalty_slot.begin(), problem.penalty_slot.end(), 1);
    problem.counts[40 + 30] = 4;
    problem.counts[40 + 31] = 1;
    problem.repetition[1] = 2;    // 4 -> 2, 3 -> 1.5
    problem.presence[2] = 1.25f;  // 4 -> 2.75; the prompt does not count
    problem.frequency[3] = 0.8f;  // 4 -> 2.4
    std::fill(problem.top_k.begin(), problem.top_k.end(), 1);
    std::fill(problem.top_p.begin(), problem.top_p.end(), 0.1f);
    std::fill(problem.min_p.begin(), problem.min_p.end(), 0.9f);
    ASSERT_TRUE(problem.run(*table).ok());
    EXPECT_EQ(problem.tokens, (std::vector<int32_t>{30, 32, 31, 31})) << table->name;
  }
}

// Facts of every kind, all on or off at random.
SampleProblem random_problem(int64_t rows, int64_t columns, uint32_t seed) {
  SampleProblem problem(rows, columns, 20);
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  const auto pick = [&](std::initializer_list<float> choices) {
    return choices.begin()[random() % choices.size()];
  };
  for (int64_t r = 0; r < rows; ++r) {
    const auto at = static_cast<size_t>(r);
    const float spread = pick({0.01f, 1, 3, 30});
    const bool ties = random() % 3 == 0;
    for (int64_t v = 0; v < columns; ++v) {
      const float logit = spread * normal(random);
      problem.row(r)[v] = ties ? std::round(logit) : logit;
    }
    problem.temperature[at] = pick({0, 1e-4f, 0.3f, 1, 1, 2.5f});
    problem.top_k[at] = static_cast<int32_t>(pick({0, 0, 1, 5, 40, 900}));
    problem.top_p[at] = pick({1, 1, 0.95f, 0.5f, 0.01f});
    problem.min_p[at] = pick({0, 0, 0.02f, 0.5f, 1});
    problem.repetition[at] = pick({1, 1.3f, 0.8f});
    problem.presence[at] = pick({0, 0.7f, -0.5f});
    problem.frequency[at] = pick({0, 0.3f});
    problem.penalty_slot[at] = static_cast<int32_t>(pick({-1, 0, 1}));
    problem.logprobs[at] = static_cast<int32_t>(pick({-1, 0, 1, 5, 20, 33}));
    problem.seed[at] = uint64_t{random()} << 32 | random();
    problem.position[at] = static_cast<int32_t>(random() % 100000);
  }
  for (int32_t& count : problem.counts) count = random() % 3 == 0 ? static_cast<int32_t>(random() % 9) : 0;
  return problem;
}

TEST(Sample, GivesTheBitsOfTheOracleOnEveryInstructionSetAndAnyNumberOfThreads) {
  for (const int64_t columns : {1, 2, 15, 63, 64, 65, 200, 1000, 5003}) {
    SampleProblem oracle = random_problem(120, columns, static_cast<uint32_t>(columns));
    ASSERT_TRUE(oracle.run(kernel_table(Isa::kReference)).ok());
    for (const KernelTable* table : runnable_tables()) {
      for (const int threads : {1, 2, 5}) {
        SampleProblem problem = random_problem(120, columns, static_cast<uint32_t>(columns));
        ASSERT_TRUE(problem.run(*table, threads).ok());
        expect_same_outputs(oracle, problem,
                            concat(table->name, " ", columns, " columns, ", threads, " threads"));
        if (HasFailure()) return;
      }
    }
  }
}

TEST(Sample, GivesTheBitsOfTheOracleForAVocabularyOfFullSize) {
  SampleProblem oracle = random_problem(8, 151936, 3);
  oracle.vocab_size = 151669;
  ASSERT_TRUE(oracle.run(kernel_table(Isa::kReference)).ok());
  for (const KernelTable* table : runnable_tables()) {
    SampleProblem problem = random_problem(8, 151936, 3);
    problem.vocab_size = 151669;
    ASSERT_TRUE(problem.run(*table, 2).ok());
    expect_same_outputs(oracle, problem, std::string(table->name));
  }
}

TEST(Sample, DrawsByTheRowsOwnFactsWhateverItsNeighbours) {
  for (const KernelTable* table : runnable_tables()) {
    SampleProblem many = random_problem(30, 500, 8);
    ASSERT_TRUE(many.run(*table, 2).ok());
    for (const size_t r : {size_t{1}, size_t{17}, size_t{29}}) {
      SampleProblem one(1, 500, 20);
      std::copy_n(many.row(static_cast<int64_t>(r)), 500, one.row(0));
      one.temperature[0] = many.temperature[r];
      one.top_k[0] = many.top_k[r];
      one.top_p[0] = many.top_p[r];
      one.min_p[0] = many.min_p[r];
      one.repetition[0] = many.repetition[r];
      one.presence[0] = many.presence[r];
      one.frequency[0] = many.frequency[r];
      one.penalty_slot[0] = many.penalty_slot[r];
      one.logprobs[0] = many.logprobs[r];
      one.seed[0] = many.seed[r];
      one.position[0] = many.position[r];
      one.counts = many.counts;
      ASSERT_TRUE(one.run(*table).ok());
      EXPECT_EQ(one.tokens[0], many.tokens[r]) << table->name << " row " << r;
      EXPECT_EQ(one.token_logprob[0], many.token_logprob[r]) << table->name << " row " << r;
    }
  }
}

TEST(Sample, ReportsLogprobsOfRawLogits) {
  for (const KernelTable* table : runnable_tables()) {
    SampleProblem problem = random_problem(60, 300, 9);
    ASSERT_TRUE(problem.run(*table).ok());
    for (int64_t r = 0; r < 60; ++r) {
      const auto at = static_cast<size_t>(r);
      const float* logits = problem.row(r);
      const float largest = *std::max_element(logits, logits + 300);
      double sum = 0;
      for (int64_t v = 0; v < 300; ++v) sum += std::exp(double{logits[v]} - largest);
      std::vector<int32_t> ranked(300);
      std::iota(ranked.begin(), ranked.end(), 0);
      std::stable_sort(ranked.begin(), ranked.end(),
                       [&](int32_t a, int32_t b) { return logits[a] > logits[b]; });
      // Two subtractions round at the size of the result; the logarithm of the sum errs by a few eps.
      const auto expect_logprob = [&](float actual, int32_t token) {
        const double truth = double{logits[token]} - largest - std::log(sum);
        EXPECT_NEAR(actual, truth, 0x1p-24 * (2 * std::abs(truth) + 2 * std::log(sum) + 4)) << table->name;
      };
      const int32_t asked = problem.logprobs[at];
      if (asked >= 0) {
        expect_logprob(problem.token_logprob[at], problem.tokens[at]);
      } else {
        EXPECT_EQ(problem.token_logprob[at], 0.0f) << table->name;
      }
      for (size_t i = 0; i < 20; ++i) {
        const bool reported = static_cast<int32_t>(i) < asked;
        ASSERT_EQ(problem.top_tokens[20 * at + i], reported ? ranked[i] : -1) << table->name << " row " << r;
        if (reported) {
          expect_logprob(problem.top_logprobs[20 * at + i], ranked[i]);
        } else {
          EXPECT_EQ(problem.top_logprobs[20 * at + i], 0.0f) << table->name;
        }
      }
    }
  }
}

template <typename Change>
std::string refusal(Change&& change) {
  SampleProblem problem(3, 50);
  Stream stream(2);
  std::vector<char> workspace;
  SampleArgs args = problem.args(workspace, 2);
  change(args);
  const Status status = sample({kernel_table(Isa::kReference), stream}, args, "test");
  EXPECT_EQ(status.code(), Code::kInvalidArgument);
  return status.message();
}

TEST(Sample, NamesWhatDoesNotFit) {
  EXPECT_EQ(refusal([](SampleArgs& args) { args.seed.dtype = DType::kI64; }),
            "sample: seed is i64; expected u64");
  EXPECT_EQ(refusal([](SampleArgs& args) { args.top_p.shape.dims[0] = 2; }),
            "sample: top_p has shape [2]; expected R = 3 as in logits [3, 50]");
  EXPECT_EQ(refusal([](SampleArgs& args) { args.counts.shape.dims[1] = 49; }),
            "sample: counts has shape [2, 49]; expected V = 50 as in logits [3, 50]");
  EXPECT_EQ(refusal([](SampleArgs& args) { args.vocab_size = 51; }),
            "sample: vocab_size is 51; expected 1 to 50 as in logits [3, 50]");
  EXPECT_EQ(refusal([](SampleArgs& args) { args.vocab_size = 0; }),
            "sample: vocab_size is 0; expected 1 to 50 as in logits [3, 50]");
  EXPECT_EQ(refusal([](SampleArgs& args) { args.workspace.shape.dims[0] = 1000; }),
            concat("sample: workspace has 1000 bytes; expected at least ", sample_workspace_bytes(2, 50)));
  EXPECT_EQ(refusal([](SampleArgs& args) { args.num_logits_rows = nullptr; }),
            "sample: num_logits_rows is null; expected the address of a count");
  EXPECT_EQ(
      refusal([](SampleArgs& args) {
        args.logits.shape.dims[1] = args.counts.shape.dims[1] = 1 << 20;
        args.vocab_size = 1 << 20;
      }),
      "sample: vocab_size is 1048576; expected at most 524288, the most that sums of probabilities have "
      "room for");
}

TEST(Sample, RunsWithoutRowsAndNamesATableWithoutAKernel) {
  SampleProblem nothing(0, 50);
  EXPECT_TRUE(nothing.run(kernel_table(Isa::kReference)).ok());
  SampleProblem problem(1, 50);
  const Status status = problem.run(KernelTable{.name = "empty"});
  EXPECT_EQ(status.code(), Code::kUnimplemented);
  EXPECT_EQ(status.message(),
            "sample: the kernel table empty has no such kernel; use the table of another instruction set");
}

}  // namespace
}  // namespace lockstep
