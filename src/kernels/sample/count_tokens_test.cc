#include <gtest/gtest.h>

#include "kernels/common/sequence_batch.h"
#include "kernels/sample/sample.h"

namespace lockstep {
namespace {

using namespace testing;  // NOLINT

struct CountProblem {
  std::vector<int32_t> tokens, positions, starts, slots, prompts, counts;
  LiveSeqs live;
  int64_t vocab;

  CountTokensArgs args() {
    const auto rows = static_cast<int64_t>(tokens.size());
    const auto seqs = static_cast<int64_t>(slots.size());
    return {.token_ids = view(tokens, {rows}),
            .positions = view(positions, {rows}),
            .query_start_loc = view(starts, {seqs + 1}),
            .penalty_slots = view(slots, {seqs}),
            .prompt_lens = view(prompts, {seqs}),
            .counts = view(counts, {static_cast<int64_t>(counts.size()) / vocab, vocab}),
            .num_seqs = &live};
  }
};

// A fresh prompt of two with its first output, a sequence further on, one without penalties, and a pad one.
CountProblem small() {
  return {.tokens = {4, 4, 1, /**/ 2, -1, 9, /**/ 3, /**/ 0, 0},
          .positions = {0, 1, 2, /**/ 10, 11, 12, /**/ 0, /**/ 0, 1},
          .starts = {0, 3, 6, 7, 9},
          .slots = {2, 0, -1, 1},
          .prompts = {2, 11, 1, 0},
          .counts = {5, 0, 1, 0, 0, /**/ 7, 7, 7, 7, 7, /**/ 8, 8, 8, 8, 8},
          .live = LiveSeqs(3),
          .vocab = 5};
}

TEST(CountTokens, MarksThePromptAndCountsTheOutput) {
  for (const KernelTable* table : runnable_tables()) {
    for (const int threads : {1, 2, 5}) {
      CountProblem problem = small();
      Stream stream(threads);
      ASSERT_TRUE(count_tokens({*table, stream}, problem.args(), "test").ok());
      // Slot 0 goes on: token 2 at position 10 is the last of its prompt; tokens -1 and 9 are none of 5.
      // Slot 1 belongs to a pad sequence. Slot 2 begins anew: 4 in the prompt, 1 once in the output.
      EXPECT_EQ(problem.counts, (std::vector<int32_t>{5, 0, 1, 0, 0, /**/ 7, 7, 7, 7, 7, /**/ 0, 2, 0, 0, 1}))
          << table->name;
    }
  }
}

TEST(CountTokens, AddsUpOverSteps) {
  CountProblem problem = small();
  problem.tokens = {4, 2, 2, /**/ 3, 3, 3, /**/ 3, /**/ 0, 0};
  problem.positions = {3, 4, 5, /**/ 13, 14, 15, /**/ 1, /**/ 0, 1};
  problem.counts[10 + 4] = 1;
  problem.counts[10 + 2] = 0;
  Stream stream(1);
  ASSERT_TRUE(count_tokens({kernel_table(Isa::kReference), stream}, problem.args(), "test").ok());
  EXPECT_EQ(problem.counts, (std::vector<int32_t>{5, 0, 1, 6, 0, /**/ 7, 7, 7, 7, 7, /**/ 8, 8, 4, 8, 3}));
}

TEST(CountTokens, NamesWhatDoesNotFit) {
  CountProblem problem = small();
  Stream stream(1);
  const Launcher on{kernel_table(Isa::kReference), stream};
  CountTokensArgs args = problem.args();
  args.positions.shape.dims[0] = 8;
  EXPECT_EQ(count_tokens(on, args, "test").message(),
            "count_tokens: positions has shape [8]; expected T = 9 as in token_ids [9]");
  args = problem.args();
  args.query_start_loc.shape.dims[0] = 4;
  EXPECT_EQ(count_tokens(on, args, "test").message(),
            "count_tokens: query_start_loc has shape [4]; expected [5], one more than penalty_slots [4]");
  args = problem.args();
  args.counts.dtype = DType::kI64;
  EXPECT_EQ(count_tokens(on, args, "test").message(), "count_tokens: counts is i64; expected i32");
  args = problem.args();
  args.num_seqs = nullptr;
  EXPECT_EQ(count_tokens(on, args, "test").message(),
            "count_tokens: num_seqs is null; expected the address of a count");
  const KernelTable empty{.name = "empty"};
  EXPECT_EQ(
      count_tokens({empty, stream}, problem.args(), "test").message(),
      "count_tokens: the kernel table empty has no such kernel; use the table of another instruction set");
}

}  // namespace
}  // namespace lockstep
