// A model that ranks share gives the logits of the whole model, within what another order of sums may change,
// and its tokens.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>

#include "../support/decoder_rank.h"
#include "../support/golden_file.h"
#include "plan/head_shares.h"

namespace lockstep::testing {
namespace {

constexpr uint64_t kSeed = 20241105;

struct Case {
  const char* model;
  MeshShape shape;
  bool guarded = false;
  bool captured = false;

  std::string folder() const {
    const bool own = std::string_view(model) == "storyteller";
    return own ? std::string(LOCKSTEP_SOURCE_DIR) + "/models/storyteller" : golden_folder(model);
  }
};

std::string name_of(const Case& c) {
  return concat(c.model, "_tp", c.shape.tp, "_dp", c.shape.dp, c.shape.expert_parallel ? "_ep" : "",
                c.guarded ? "_guarded" : "", c.captured ? "_captured" : "");
}
std::ostream& operator<<(std::ostream& out, const Case& c) { return out << name_of(c); }

DecoderSpec spec_of(const Case& c) {
  return plan_model({.path = c.folder(), .dtype = ComputeDType::kFloat32}).value()->model.spec;
}

// Terms of the longest sum that ranks share.
int64_t longest_sum(const DecoderSpec& spec) {
  return std::max({spec.softmax.heads * spec.softmax.head_dim, spec.delta.value_width(), spec.dense_width,
                   spec.moe.choices * spec.moe.expert_width + spec.moe.shared_width});
}

// Prompts of every replica: uneven, so that their live rows end at different rows of the same bucket. The
// last of several replicas has one short prompt and pads otherwise.
std::vector<Prompts> random_prompts(const Case& c, int32_t vocab) {
  std::mt19937_64 random(kSeed);
  std::vector<Prompts> all(static_cast<size_t>(c.shape.dp));
  for (size_t d = 0; d < all.size(); ++d) {
    const bool last = d > 0 && d + 1 == all.size();
    for (const size_t length : last ? std::vector<size_t>{2} : std::vector<size_t>{17 - d, 1, 21}) {
      all[d].emplace_back();
      for (size_t i = 0; i < length; ++i)
        all[d].back().push_back(static_cast<int32_t>(random() % static_cast<uint64_t>(vocab)));
    }
  }
  return all;
}

double largest(const std::vector<float>& values) {
  double most = 0;
  for (const float value : values) most = std::max(most, std::abs(static_cast<double>(value)));
  return most;
}

double largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
  double most = 0;
  for (size_t i = 0; i < a.size(); ++i)
    most = std::isnan(a[i]) ? HUGE_VAL : std::max(most, std::abs(static_cast<double>(a[i]) - b[i]));
  return most;
}

class Shards : public ::testing::TestWithParam<Case> {};

// What may differ: a sum of K terms in another order, by K units in the last place of its terms, in two
// blocks of each layer; norms behind every block keep relative differences as they are.
TEST_P(Shards, GiveTheLogitsAndTokensOfTheWholeModel) {
  const Case& c = GetParam();
  const DecoderSpec spec = spec_of(c);
  const std::vector<Prompts> prompts = random_prompts(c, spec.vocab);
  const RankRun run{.model = c.folder(),
                    .prompt_rows = 48,
                    .seqs = 4,
                    .tokens = 6,
                    .guarded = c.guarded,
                    .captured = c.captured};
  const double bound =
      2.0 * static_cast<double>(spec.layers.size()) * static_cast<double>(longest_sum(spec)) * 0x1p-24;

  const std::vector<Drawn> ranks = draw_on_mesh(run, c.shape, prompts);

  double worst = 0;
  for (int32_t rank = 0; rank < c.shape.world(); ++rank) {
    const MeshPlace place = place_of(c.shape, rank);
    const Drawn& drawn = ranks[static_cast<size_t>(rank)];
    const Drawn& leader = ranks[static_cast<size_t>(rank - place.tp)];
    const Drawn whole = DecoderRank(run, nullptr).draw(prompts[static_cast<size_t>(place.dp)]);
    EXPECT_EQ(drawn.tokens, whole.tokens) << "rank " << rank << ", seed " << kSeed;
    ASSERT_EQ(drawn.logits.size(), whole.logits.size());
    for (size_t s = 0; s < whole.logits.size(); ++s) {
      ASSERT_EQ(drawn.logits[s].size(), whole.logits[s].size()) << "rank " << rank;
      for (size_t t = 0; t < whole.logits[s].size(); ++t) {
        const std::vector<float>& expected = whole.logits[s][t];
        const double error = largest_difference(drawn.logits[s][t], expected) / largest(expected);
        EXPECT_LE(error, bound) << "rank " << rank << " sequence " << s << " token " << t;
        worst = std::max(worst, error);
        EXPECT_EQ(0, std::memcmp(drawn.logits[s][t].data(), leader.logits[s][t].data(),
                                 expected.size() * sizeof(float)))
            << "rank " << rank << " has other bits than rank " << rank - place.tp;
      }
    }
  }
  std::cout << c << ": largest relative difference " << worst << ", allowed " << bound << "\n";
}

INSTANTIATE_TEST_SUITE_P(
    Models, Shards,
    ::testing::Values(Case{"qwen3", {.tp = 2}}, Case{"qwen3_moe", {.tp = 2}}, Case{"qwen3_moe", {.tp = 4}},
                      Case{"qwen3_moe", {.tp = 4}, true}, Case{"qwen3_next", {.tp = 2}},
                      Case{"qwen3_next", {.tp = 2}, true}, Case{"storyteller", {.tp = 2}},
                      Case{"qwen3_moe", {.tp = 2, .dp = 2}},
                      Case{"qwen3_moe", {.tp = 4, .expert_parallel = true}},
                      Case{"qwen3_moe", {.tp = 2, .dp = 2, .expert_parallel = true}},
                      Case{"qwen3_moe", {.tp = 2, .dp = 2, .expert_parallel = true}, true},
                      Case{"qwen3_moe", {.tp = 1, .dp = 4, .expert_parallel = true}},
                      Case{"qwen3_next", {.tp = 1, .dp = 3, .expert_parallel = true}},
                      Case{"qwen3_next", {.tp = 1, .dp = 3, .expert_parallel = true}, true},
                      Case{"storyteller", {.tp = 2, .dp = 2, .expert_parallel = true}},
                      Case{"minimax_m2", {.tp = 2}}, Case{"minimax_m2", {.tp = 6}, true},
                      Case{"minimax_m2", {.tp = 2, .expert_parallel = true}, false, true},
                      Case{"qwen3_5_moe", {.tp = 2}}, Case{"qwen3_next", {.tp = 2}, false, true},
                      Case{"qwen3_moe", {.tp = 4, .expert_parallel = true}, true, true},
                      Case{"qwen3_moe", {.tp = 2, .dp = 2, .expert_parallel = true}, false, true}),
    [](const auto& instance) { return name_of(instance.param); });

// --- heads ------------------------------------------------------------------------------------------------

std::string check_heads(std::string_view name, int32_t heads, int32_t size, int32_t tp,
                        const std::vector<HeadShare>& shares) {
  const int32_t copies = std::max(tp / heads, 1);
  return check_head_map({.name = name, .heads = heads, .head_size = size, .copies = copies, .shares = shares})
      .message();
}

// P7, on what the loader takes of the checkpoint's tensors.
TEST(ShardHeads, AreWholeAndHeldEquallyOften) {
  for (const auto& [model, tp] : {std::pair("qwen3", 2), {"qwen3_moe", 4}, {"qwen3_next", 2}}) {
    const DecoderSpec spec = spec_of({model, {.tp = tp}});
    std::vector<HeadShare> queries, keys, delta;
    for (int32_t rank = 0; rank < tp; ++rank) {
      DecoderWeights unused;
      const WeightPlan plan = list_weights(spec, {.tp_rank = rank, .tp = tp}, DType::kF32, unused);
      for (const MatrixTarget& matrix : plan.matrices) {
        if (matrix.name.ends_with("layers.2.self_attn.o_proj")) {
          queries.push_back({rank, matrix.inputs.begin, matrix.k});
        } else if (matrix.name.ends_with("layers.2.self_attn.qkv_proj")) {
          const RowRun run = matrix.parts[1].order.at(0);
          keys.push_back({rank, run.begin, run.count});
        } else if (matrix.name.ends_with("layers.0.linear_attn.out_proj")) {
          delta.push_back({rank, matrix.inputs.begin, matrix.k});
        }
      }
    }
    ASSERT_EQ(queries.size(), static_cast<size_t>(tp));
    const SoftmaxMixerSpec& s = spec.softmax;
    EXPECT_EQ(check_heads("query heads", s.heads, s.head_dim, tp, queries), "") << model;
    EXPECT_EQ(check_heads("kv heads", s.kv_heads, s.head_dim, tp, keys), "") << model;
    if (spec.count(Mixer::kDelta) == 0) continue;
    EXPECT_EQ(check_heads("value heads", spec.delta.value_heads, spec.delta.value_dim, tp, delta), "");
  }
}

}  // namespace
}  // namespace lockstep::testing
