#include <gtest/gtest.h>

#include <sstream>

#include "plan/plan_builder.h"

namespace lockstep {
namespace {

// A state group and two paged ones, of 4 and of 8 tokens per page.
StepLimits three_groups() {
  StepLimits limits{.max_rows = 16,
                    .max_seqs = 8,
                    .max_logits_rows = 4,
                    .max_seq_len = 32,
                    .max_edits = 16,
                    .max_copies = 2,
                    .vocab_size = 10,
                    .penalty_slots = 4,
                    .mask_slots = 2,
                    .num_groups = 3};
  limits.groups[0] = {.kind = GroupKind::kState, .num_pages = 6};
  limits.groups[1] = {
      .page_tokens = 4, .kernel_page_tokens = 4, .num_pages = 20, .table_rows = 4, .max_pages_per_seq = 8};
  limits.groups[2] = {
      .page_tokens = 8, .kernel_page_tokens = 8, .num_pages = 20, .table_rows = 4, .max_pages_per_seq = 4};
  return limits;
}

std::string printed(const StepPlan& plan) {
  std::ostringstream out;
  print_plan(plan, three_groups(), out);
  return out.str();
}

// Two sequences in a bucket of 12 rows: one decodes with everything switched on, one begins its prompt.
StepPlan mixed_plan() {
  PageTables small(4, 8), large(4, 4);
  for (const int32_t page : {3, 9, 5}) small.append(TableRow(2), PageId(page));
  for (const int32_t page : {7, 6}) large.append(TableRow(1), PageId(page));
  small.edits_taken();
  large.edits_taken();
  for (const int32_t page : {12, 13}) small.append(TableRow(3), PageId(page));
  large.append(TableRow(2), PageId(4));
  const std::vector<TokenId> tokens(6);
  std::vector<SequenceStep> steps(2);
  steps[0] = {.tokens = std::span(tokens).first(1),
              .last_token_source = TokenSource(1),
              .computed = TokenCount(9),
              .prompt_len = TokenCount(5),
              .table_rows = {TableRow(0), TableRow(2), TableRow(1)},
              .state_slot = StateSlot(3),
              .penalty_slot = PenaltySlot(2),
              .wants_logits = true,
              .sampling = {.temperature = 0.7f,
                           .top_k = 50,
                           .top_p = 0.9f,
                           .min_p = 0.05f,
                           .repetition_penalty = 1.1f,
                           .presence_penalty = 0.5f,
                           .frequency_penalty = -0.25f,
                           .seed = 42,
                           .logprobs = 5,
                           .mask_slot = 1}};
  steps[1] = {.tokens = tokens,
              .prompt_len = TokenCount(6),
              .table_rows = {TableRow(0), TableRow(3), TableRow(2)},
              .state_slot = StateSlot(1),
              .wants_logits = true};
  const PageCopy copy{PageId(3), PageId(5)};
  StepRequest request{.epoch = Epoch(17),
                      .source_epoch = Epoch(16),
                      .sequences = steps,
                      .bucket = {PaddedRows(12), PaddedSeqs(6), PaddedRows(3)}};
  request.copies[0] = {&copy, 1};
  StepPlan plan;
  const Status built = PlanBuilder(three_groups(), {nullptr, &small, &large}).build(request, plan);
  EXPECT_TRUE(built.ok()) << built.message();
  return plan;
}

TEST(PrintPlan, IsATableThatAPersonReads) {
  const StepPlan plan = mixed_plan();
  std::ostringstream digest;
  digest << std::hex << plan.digest();

  EXPECT_EQ(printed(plan),
            "plan 17: mixed, 7 of 12 rows, 2 of 6 sequences, 2 of 3 logits rows; longest query 6, longest "
            "sequence 10; tokens from plan 16; digest " +
                std::string(16 - digest.str().size(), '0') + digest.str() +
                R"(
  sequence  rows         tokens            prompt  state         g1 table row  pages  slots             g2 table row  pages  slots
  0         0            9 -> 10           5       3 -> 3        2             3      21                1             2      49
  1         1..6         0 -> 6            6       new -> 1      3             2      48..53            2             1      32..37
  pad       7..10        0 -> 4            0       -             0             1      SKIP              0             1      SKIP
  pad       11           0 -> 1            0       -             0             1      SKIP              0             1      SKIP
  2 empty sequences
  logits    row          position          draw
  0         0            10                temperature 0.7, seed 42, top-k 50, top-p 0.9, min-p 0.05, repetition 1.1, presence 0.5, frequency -0.25, penalty slot 2, mask 1, logprobs 5
  1         6            6                 greedy
  copies    g0: 3->5
  edits     g1: (3)[0]=12 (3)[1]=13
  edits     g2: (2)[0]=4
)");
}

TEST(PrintPlan, SaysWhenThereIsNoPlan) { EXPECT_EQ(printed(StepPlan()), "plan without an image\n"); }

TEST(PrintPlan, LeavesTheStreamAsItWas) {
  std::ostringstream out;
  print_plan(mixed_plan(), three_groups(), out);
  out.str("");

  out << 255 << ' ' << 1.5f;

  EXPECT_EQ(out.str(), "255 1.5");
}

// Numbers that make no sense are printed as they are; nothing outside the plan is read.
TEST(PrintPlan, PrintsBrokenPlans) {
  StepPlan plan = mixed_plan();
  plan.edit(field::query_start_loc)[1] = RowOffset(99);
  plan.edit(field::num_seqs)[0] = LiveSeqs(-4);
  plan.edit(field::num_logits_rows)[0] = LiveRows(1000);
  plan.edit(field::num_table_edits, GroupId(1))[0] = 1000;
  plan.edit(field::num_copies)[0] = -1;
  plan.edit(field::phase)[0] = 9;

  const std::string text = printed(plan);

  EXPECT_EQ(text.substr(0, 80),
            "plan 17: unknown, 7 of 12 rows, -4 of 6 sequences, 1000 of 3 logits rows; longes");
  EXPECT_NE(text.find("  pad       0..11 "), std::string::npos) << text;
}

}  // namespace
}  // namespace lockstep
