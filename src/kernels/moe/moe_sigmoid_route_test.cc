// moe_route with sigmoid scores and a correction bias. The scores are those of routing_sigmoid(), whose own
// accuracy the last test checks against the C library.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/linear/matmul_case.h"
#include "kernels/moe/moe.h"
#include "kernels/moe/moe_sigmoid.h"

namespace lockstep {
namespace {

using namespace matmul_test;  // NOLINT

constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Routed {
  std::vector<int32_t> ids;
  std::vector<float> weights;
};

struct Call {
  std::vector<float> logits;  // [live, X]
  int64_t experts;
  int64_t each;
  std::vector<float> bias{};  // [X] or none
  bool normalise = true;
  int64_t pads = 0;

  int64_t live() const { return static_cast<int64_t>(logits.size()) / experts; }

  Routed run(Isa isa, int threads = 1) const {
    const int64_t rows = live() + pads;
    std::vector<float> inputs = poisoned(logits, experts, rows, experts + 1), added = bias;
    Routed routed{std::vector<int32_t>(static_cast<size_t>(rows * each), -7),
                  std::vector<float>(static_cast<size_t>(rows * each), kNaN)};
    const LiveRows num_rows(live());
    Stream stream(threads);
    MoeRouteArgs args{.logits = strided(inputs, rows, experts, experts + 1),
                      .expert_ids = view(routed.ids, {rows, each}),
                      .expert_weights = view(routed.weights, {rows, each}),
                      .num_rows = &num_rows,
                      .scoring = MoeScoring::kSigmoid,
                      .normalise = normalise};
    if (!added.empty()) args.bias = view(added, {experts});
    const Status status = moe_route({table_of(isa), stream}, args, "test");
    EXPECT_TRUE(status.ok()) << status.message();
    return routed;
  }
};

// The definition, by a sort: what every table must give bit for bit.
Routed expected_of(const Call& call) {
  Routed routed;
  for (int64_t t = 0; t < call.live(); ++t) {
    std::vector<float> scores, ranks;
    for (int64_t x = 0; x < call.experts; ++x) {
      scores.push_back(routing_sigmoid(call.logits[static_cast<size_t>(t * call.experts + x)]));
      ranks.push_back(scores.back() + (call.bias.empty() ? 0 : call.bias[static_cast<size_t>(x)]));
    }
    std::vector<int32_t> order(scores.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
      return ranks[static_cast<size_t>(a)] > ranks[static_cast<size_t>(b)];
    });
    float sum = 0;
    for (int64_t j = 0; j < call.each; ++j) sum += scores[static_cast<size_t>(order[static_cast<size_t>(j)])];
    for (int64_t j = 0; j < call.each; ++j) {
      const int32_t expert = order[static_cast<size_t>(j)];
      routed.ids.push_back(expert);
      routed.weights.push_back(scores[static_cast<size_t>(expert)] / (call.normalise ? sum : 1.0f));
    }
  }
  return routed;
}

TEST(MoeSigmoidRoute, ChoosesWithTheBiasAndWeighsWithoutIt) {
  // Sigmoids 1/2, 3/4, 1/4, 1/2: the bias lifts the third to the front and puts the second last.
  const Call call{.logits = {0, std::log(3.0f), -std::log(3.0f), 0},
                  .experts = 4,
                  .each = 2,
                  .bias = {0, -0.5f, 0.75f, 0.125f}};
  for (const Isa isa : runnable()) {
    const Routed routed = call.run(isa);
    EXPECT_EQ(routed.ids, (std::vector<int32_t>{2, 3})) << name_of(isa);
    EXPECT_NEAR(routed.weights[0], 1.0 / 3, 1e-7) << name_of(isa);
    EXPECT_NEAR(routed.weights[1], 2.0 / 3, 1e-7) << name_of(isa);
    Call plain = call;
    plain.normalise = false;
    EXPECT_NEAR(plain.run(isa).weights[0], 0.25, 1e-7) << name_of(isa);
    plain.bias.clear();
    EXPECT_EQ(plain.run(isa).ids, (std::vector<int32_t>{1, 0})) << name_of(isa);
  }
}

TEST(MoeSigmoidRoute, GivesTheBitsOfTheDefinitionOnEveryTable) {
  for (const Isa isa : runnable()) {
    for (const auto& [experts, each] :
         {std::pair<int64_t, int64_t>{1, 1}, {4, 4}, {17, 3}, {64, 8}, {65, 65}, {256, 8}, {513, 10}}) {
      for (const float spread : {0.01f, 1.0f, 40.0f}) {
        Call call{.logits = random_values(31 * experts, 7),
                  .experts = experts,
                  .each = each,
                  .bias = random_values(experts, 8),
                  .pads = 2};
        for (float& logit : call.logits) logit *= spread;
        const Routed expected = expected_of(call);

        const Routed routed = call.run(isa, 2);

        const auto live = static_cast<size_t>(31 * each);
        ASSERT_TRUE(std::equal(expected.ids.begin(), expected.ids.end(), routed.ids.begin()))
            << name_of(isa) << " " << experts << " experts, spread " << spread;
        ASSERT_TRUE(same_bits(routed.weights.data(), expected.weights.data(), static_cast<int64_t>(live)))
            << name_of(isa) << " " << experts << " experts, spread " << spread;
        for (size_t at = live; at < routed.ids.size(); ++at) {
          ASSERT_EQ(routed.ids[at], -1) << name_of(isa);
          ASSERT_EQ(routed.weights[at], 0) << name_of(isa);
        }
      }
    }
  }
}

// Logits in neighbourhoods of a few units in the last place, and biases that make different logits equal: a
// kernel that rounds one sigmoid otherwise chooses otherwise.
TEST(MoeSigmoidRoute, OrdersNeighboursAndTiesAlikeOnEveryTable) {
  int64_t ties = 0;
  for (uint32_t seed = 1; seed <= 40; ++seed) {
    std::mt19937 random(seed);
    Call call{.logits = {}, .experts = 192, .each = 12, .bias = {}};
    const float centre = static_cast<float>(random() % 16) - 8.0f + 0.37f;
    for (int64_t i = 0; i < 4 * call.experts; ++i) {
      float logit = centre;
      for (auto step = random() % 24; step > 0; --step) logit = std::nextafter(logit, kInfinity);
      call.logits.push_back(logit);
    }
    for (int64_t x = 0; x < call.experts; ++x)
      call.bias.push_back(static_cast<float>(random() % 3) * 0x1p-24f);
    const Routed expected = expected_of(call);
    for (size_t j = 1; j < 12; ++j) {
      const auto score = [&](size_t at) {
        return routing_sigmoid(call.logits[static_cast<size_t>(expected.ids[at])]) +
               call.bias[static_cast<size_t>(expected.ids[at])];
      };
      ties += score(j) == score(j - 1) ? 1 : 0;
    }
    for (const Isa isa : runnable()) {
      const Routed routed = call.run(isa);
      ASSERT_EQ(routed.ids, expected.ids) << name_of(isa) << " seed " << seed;
      ASSERT_TRUE(same_bits(routed.weights.data(), expected.weights.data(), 48)) << name_of(isa);
    }
  }
  EXPECT_GT(ties, 100);
}

TEST(MoeSigmoidRoute, PrefersTheLowerExpertAmongEquals) {
  // 20 and 30 both have a sigmoid of 1 in f32.
  const Call call{.logits = {1, 20, 1, 30, 1, 1}, .experts = 6, .each = 4};
  for (const Isa isa : runnable()) {
    EXPECT_EQ(call.run(isa).ids, (std::vector<int32_t>{1, 3, 0, 2})) << name_of(isa);
  }
}

TEST(MoeSigmoidRoute, MarksARowThatHoldsNanWithValidIds) {
  for (const Isa isa : runnable()) {
    for (const int64_t where : {0, 2, 69}) {
      for (const bool in_bias : {false, true}) {
        Call call{.logits = random_values(3 * 70, 7), .experts = 70, .each = 4, .bias = random_values(70, 8)};
        const Routed clean = call.run(isa);
        if (in_bias) {
          call.bias[static_cast<size_t>(where)] = kNaN;
        } else {
          call.logits[static_cast<size_t>(70 + where)] = kNaN;
        }

        const Routed routed = call.run(isa);

        for (size_t j = 0; j < 4; ++j) {
          EXPECT_TRUE(in_bias || routed.weights[j] == clean.weights[j]) << name_of(isa);
          EXPECT_TRUE(std::isnan(routed.weights[4 + j])) << name_of(isa) << " " << where;
          EXPECT_GE(routed.ids[4 + j], 0) << name_of(isa);
          EXPECT_LT(routed.ids[4 + j], 70) << name_of(isa);
          for (size_t i = 0; i < j; ++i) EXPECT_NE(routed.ids[4 + i], routed.ids[4 + j]) << name_of(isa);
        }
      }
    }
  }
}

TEST(MoeSigmoidRoute, GivesNoWeightThatIsMadeUpWhereNoExpertHasAny) {
  const Call none{.logits = {-kInfinity, -kInfinity, -kInfinity}, .experts = 3, .each = 2};
  const Call one{.logits = {-kInfinity, 0, -kInfinity}, .experts = 3, .each = 2};
  for (const Isa isa : runnable()) {
    EXPECT_TRUE(std::isnan(none.run(isa).weights[0])) << name_of(isa);
    EXPECT_EQ(one.run(isa).ids, (std::vector<int32_t>{1, 0})) << name_of(isa);
    EXPECT_EQ(one.run(isa).weights, (std::vector<float>{1, 0})) << name_of(isa);
  }
}

TEST(MoeSigmoidRoute, GivesARowTheSameBitsInEveryBatchAndOnAnyNumberOfThreads) {
  for (const Isa isa : runnable()) {
    const Call whole{
        .logits = random_values(40 * 130, 9), .experts = 130, .each = 6, .bias = random_values(130, 3)};
    const Routed expected = whole.run(isa);
    EXPECT_EQ(whole.run(isa, 5).ids, expected.ids);
    for (int64_t t = 0; t < 40; ++t) {
      Call one = whole;
      one.logits.assign(whole.logits.begin() + t * 130, whole.logits.begin() + (t + 1) * 130);
      EXPECT_TRUE(same_bits(one.run(isa).weights.data(), expected.weights.data() + t * 6, 6))
          << name_of(isa) << t;
    }
  }
}

TEST(MoeSigmoidRoute, RefusesABiasOfSoftmaxScores) {
  std::vector<float> logits(4), bias(4), weights(2);
  std::vector<int32_t> ids(2);
  const LiveRows live(1);
  Stream stream(1);
  MoeRouteArgs args{.logits = view(logits, {1, 4}),
                    .bias = view(bias, {4}),
                    .expert_ids = view(ids, {1, 2}),
                    .expert_weights = view(weights, {1, 2}),
                    .num_rows = &live};
  const Launcher on{kernel_table(Isa::kReference), stream};

  EXPECT_EQ(moe_route(on, args, "test").message(),
            "moe_route: a bias is given with softmax scores; expected none: it is added to sigmoids");
  args.scoring = MoeScoring::kSigmoid;
  EXPECT_EQ(moe_route(on, args, "test").message(), "");
  args.bias = view(bias, {3});
  EXPECT_EQ(moe_route(on, args, "test").message(),
            "moe_route: bias has shape [3]; expected X = 4 as in logits [1, 4]");
}

// The C library's exp of a double errs by less than 2^-52, so its quotient rounds to the nearest f32 but for
// one value in 10^7: never more than one unit in the last place from ours.
TEST(RoutingSigmoid, IsTheNearestFloatButForValuesHalfwayBetweenTwo) {
  int64_t other = 0, count = 0;
  std::mt19937 random(11);
  for (int64_t i = 0; i < 200000; ++i) {
    const float x = static_cast<float>(static_cast<double>(random()) / 0x1p32 * 240 - 120);
    const auto nearest = static_cast<float>(1 / (1 + std::exp(-static_cast<double>(x))));
    const float ours = routing_sigmoid(x);
    ASSERT_TRUE(ours == nearest || std::nextafter(ours, nearest) == nearest) << x;
    other += ours != nearest ? 1 : 0;
    ++count;
  }
  EXPECT_LE(other, 2) << "of " << count;
  EXPECT_EQ(routing_sigmoid(0), 0.5f);
  EXPECT_EQ(routing_sigmoid(kInfinity), 1.0f);
  EXPECT_EQ(routing_sigmoid(-kInfinity), 0.0f);
  EXPECT_EQ(routing_sigmoid(1e30f), 1.0f);
  EXPECT_EQ(routing_sigmoid(-1e30f), 0.0f);
  EXPECT_TRUE(std::isnan(routing_sigmoid(kNaN)));
  // Bits that any machine must give.
  EXPECT_EQ(routing_sigmoid(1.0f), 0x1.764d5p-1f);
  EXPECT_EQ(routing_sigmoid(-5.5f), 0x1.0abd94p-8f);
}

}  // namespace
}  // namespace lockstep
