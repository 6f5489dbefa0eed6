#include "model/shard.h"

#include <gtest/gtest.h>

#include "model/test_support.h"

namespace lockstep {
namespace {

TEST(Shard, KeepsWhatRanksShareAndCutsTheRest) {
  const DecoderSpec whole = golden_spec("qwen3_next");
  const DecoderSpec local =
      shard(whole, shard_of({.tp = 2, .dp = 3, .expert_parallel = false}, {.tp = 1, .dp = 2})).value();

  EXPECT_EQ(local.softmax.heads, 2);
  EXPECT_EQ(local.softmax.kv_heads, 1);
  EXPECT_EQ(local.delta.key_heads, 1);
  EXPECT_EQ(local.delta.value_heads, 3);
  EXPECT_EQ(local.moe.expert_width, 8);
  EXPECT_EQ(local.moe.shared_width, 12);
  EXPECT_EQ(local.moe.held.first, 0);
  EXPECT_EQ(local.moe.held.count, 9);
  EXPECT_EQ(local.vocab_rows.first, 130);  // of 259 rows; the last of this rank's 130 is zeros
  EXPECT_EQ(local.vocab_rows.count, 130);
  EXPECT_EQ(local.width, whole.width);
  EXPECT_EQ(local.vocab, whole.vocab);
  EXPECT_EQ(local.moe.experts, whole.moe.experts);
}

// An all-heads norm adds up what ranks have: a key head that several of them hold is counted once.
TEST(Shard, CountsAKeyHeadOnceThatRanksHoldTogether) {
  DecoderSpec whole = golden_spec("qwen3_moe");
  whole.softmax = {.heads = 24, .kv_heads = 4, .head_dim = 8, .qk_norm = QkNorm::kAllHeads, .rope = {}};
  whole.softmax.normed_heads = 24;
  whole.softmax.normed_kv_heads = whole.softmax.counted_kv_heads = 4;
  whole.dense_width = whole.moe.expert_width = 24;
  struct Case {
    int32_t tp;
    std::vector<int32_t> counted;
  };
  for (const Case& c : {Case{1, {4}}, {2, {2, 2}}, {4, {1, 1, 1, 1}}, {8, {1, 0, 1, 0, 1, 0, 1, 0}}}) {
    for (int32_t rank = 0; rank < c.tp; ++rank) {
      const DecoderSpec local = shard(whole, {.tp_rank = rank, .tp = c.tp}).value();
      EXPECT_EQ(local.softmax.counted_kv_heads, c.counted[static_cast<size_t>(rank)])
          << rank << " of " << c.tp;
      EXPECT_EQ(local.softmax.normed_heads, 24);
      EXPECT_EQ(local.softmax.normed_kv_heads, 4);
    }
  }
}

TEST(Shard, GivesWholeExpertsToTheRanksOfAllReplicas) {
  const DecoderSpec whole = golden_spec("qwen3_next");
  const ShardSpec place = shard_of({.tp = 1, .dp = 3, .expert_parallel = true}, {.dp = 2});
  const DecoderSpec local = shard(whole, place).value();

  EXPECT_EQ(place.expert_ranks, 3);
  EXPECT_EQ(local.moe.held.first, 6);
  EXPECT_EQ(local.moe.held.count, 3);
  EXPECT_EQ(local.moe.expert_width, 16);
  EXPECT_EQ(local.moe.shared_width, 24);
  EXPECT_EQ(local.softmax.heads, 4);
}

TEST(Shard, OfARankThatIsAloneIsTheModel) {
  for (const char* family : {"qwen3", "qwen3_moe", "qwen3_next"}) {
    const DecoderSpec whole = golden_spec(family);
    const DecoderSpec local = shard(whole, {}).value();
    EXPECT_EQ(local.parameters(), whole.parameters()) << family;
    EXPECT_EQ(local.softmax.kv_heads, whole.softmax.kv_heads) << family;
    EXPECT_EQ(local.vocab_rows.count, whole.vocab) << family;
  }
}

TEST(Shard, NamesWhatDoesNotDivideAndTheSizesThatDo) {
  const auto refusal = [](DecoderSpec spec, int32_t tp, bool experts = false) {
    const ShardSpec place{.tp = tp, .expert_ranks = experts ? tp : 1, .expert_parallel = experts};
    return shard(spec, place).status().message();
  };
  const DecoderSpec next = golden_spec("qwen3_next"), moe = golden_spec("qwen3_moe");

  EXPECT_EQ(refusal(moe, 3),
            "--tensor-parallel-size is 3; expected a divisor of num_attention_heads = 4; choose 1, 2 or 4");
  EXPECT_EQ(refusal(next, 4),
            "--tensor-parallel-size is 4; expected a divisor of linear_num_key_heads = 2; choose 1 or 2");
  EXPECT_EQ(refusal(next, 0), "--tensor-parallel-size is 0; expected 1 to 1024; choose 1 or 2");
  DecoderSpec kv = moe;
  kv.softmax.heads = 24;
  kv.softmax.kv_heads = 6;
  kv.dense_width = kv.moe.expert_width = 96;
  EXPECT_EQ(refusal(kv, 4),
            "--tensor-parallel-size is 4; expected a divisor or a multiple of num_key_value_heads = 6; "
            "choose 1, 2, 3, 6, 12 or 24");
  DecoderSpec narrow = moe;
  narrow.moe.expert_width = 6;
  EXPECT_EQ(refusal(narrow, 4),
            "--tensor-parallel-size is 4; expected a divisor of moe_intermediate_size = 6; choose 1 or 2");
  EXPECT_EQ(refusal(narrow, 4, true), "") << "experts stay whole";
  DecoderSpec few = moe;
  few.vocab = 5;
  EXPECT_EQ(
      refusal(few, 4),
      "--tensor-parallel-size is 4; expected a row of the vocabulary on each rank, with ceil(vocab_size "
      "/ 4) rows each of vocab_size = 5; choose 1 or 2");
}

TEST(Shard, NamesExpertsThatRanksCannotShare) {
  const auto refusal = [](const DecoderSpec& spec, int32_t ranks) {
    return shard(spec, {.expert_ranks = ranks, .expert_parallel = true}).status().message();
  };

  EXPECT_EQ(
      refusal(golden_spec("qwen3_next"), 2),
      "--enable-expert-parallel spreads the experts over 2 ranks, tensor times data parallel; expected a "
      "divisor of num_experts = 9; choose 1, 3 or 9 ranks");
  EXPECT_EQ(refusal(golden_spec("qwen3"), 2),
            "--enable-expert-parallel is given for qwen3, which has no experts; expected a model of experts; "
            "leave the flag away");
}

}  // namespace
}  // namespace lockstep
