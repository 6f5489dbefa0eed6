#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/linear/matmul_case.h"
#include "kernels/moe/moe.h"

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
  bool normalise = true;
  int64_t pads = 0;

  int64_t live() const { return static_cast<int64_t>(logits.size()) / experts; }

  Routed run(Isa isa, int threads = 1) const {
    const int64_t rows = live() + pads;
    std::vector<float> inputs = poisoned(logits, experts, rows, experts + 1);
    Routed routed{std::vector<int32_t>(static_cast<size_t>(rows * each), -7),
                  std::vector<float>(static_cast<size_t>(rows * each), kNaN)};
    const LiveRows num_rows(live());
    Stream stream(threads);
    const Status status = moe_route({table_of(isa), stream},
                                    {.logits = strided(inputs, rows, experts, experts + 1),
                                     .expert_ids = view(routed.ids, {rows, each}),
                                     .expert_weights = view(routed.weights, {rows, each}),
                                     .num_rows = &num_rows,
                                     .normalise = normalise},
                                    "test");
    EXPECT_TRUE(status.ok()) << status.message();
    return routed;
  }
};

TEST(MoeRoute, TakesTheLargestAndSharesOutTheirProbability) {
  // Probabilities 1/8, 1/2, 1/4, 1/8 by logits of logarithms.
  const Call call{.logits = {0, std::log(4.0f), std::log(2.0f), 0}, .experts = 4, .each = 2};
  for (const Isa isa : runnable()) {
    const Routed shared = call.run(isa);
    EXPECT_EQ(shared.ids, (std::vector<int32_t>{1, 2})) << name_of(isa);
    EXPECT_NEAR(shared.weights[0], 2.0 / 3, 1e-6) << name_of(isa);
    EXPECT_NEAR(shared.weights[1], 1.0 / 3, 1e-6) << name_of(isa);
    Call plain = call;
    plain.normalise = false;
    EXPECT_NEAR(plain.run(isa).weights[0], 0.5, 1e-6) << name_of(isa);
    EXPECT_NEAR(plain.run(isa).weights[1], 0.25, 1e-6) << name_of(isa);
  }
}

TEST(MoeRoute, PrefersTheLowerExpertAmongEquals) {
  const Call call{.logits = {1, 3, 1, 3, 1, 1}, .experts = 6, .each = 4};
  for (const Isa isa : runnable()) {
    EXPECT_EQ(call.run(isa).ids, (std::vector<int32_t>{1, 3, 0, 2})) << name_of(isa);
  }
}

TEST(MoeRoute, AgreesWithASortInDouble) {
  for (const Isa isa : runnable()) {
    for (const auto& [experts, each] :
         {std::pair<int64_t, int64_t>{1, 1}, {4, 4}, {17, 3}, {128, 8}, {513, 10}}) {
      for (const int64_t rows : {1, 31, 127}) {
        const Call call{
            .logits = random_values(rows * experts, 7), .experts = experts, .each = each, .pads = 2};
        const Routed routed = call.run(isa, 2);
        for (int64_t t = 0; t < rows; ++t) {
          const float* logits = call.logits.data() + t * experts;
          std::vector<int32_t> order(static_cast<size_t>(experts));
          std::iota(order.begin(), order.end(), 0);
          std::stable_sort(order.begin(), order.end(),
                           [&](int32_t a, int32_t b) { return logits[a] > logits[b]; });
          double sum = 0;
          for (int64_t j = 0; j < each; ++j)
            sum += std::exp(static_cast<double>(logits[order[static_cast<size_t>(j)]]));
          for (int64_t j = 0; j < each; ++j) {
            const auto at = static_cast<size_t>(t * each + j);
            const double expected =
                std::exp(static_cast<double>(logits[order[static_cast<size_t>(j)]])) / sum;
            ASSERT_EQ(routed.ids[at], order[static_cast<size_t>(j)]) << name_of(isa) << " row " << t;
            // exp errs by 2 ulp and by its argument's rounding (|x| <= 2: 2 units), twice; k additions, a
            // division.
            ASSERT_NEAR(routed.weights[at], expected, expected * static_cast<double>(each + 13) * kUnit)
                << name_of(isa);
          }
        }
        for (auto at = static_cast<size_t>(rows * each); at < routed.ids.size(); ++at) {
          ASSERT_EQ(routed.ids[at], -1) << name_of(isa);
          ASSERT_EQ(routed.weights[at], 0) << name_of(isa);
        }
      }
    }
  }
}

TEST(MoeRoute, MarksARowThatHoldsNaNWithValidIds) {
  for (const Isa isa : runnable()) {
    for (const int64_t where : {0, 2, 19}) {
      for (const bool normalise : {true, false}) {
        Call call{.logits = random_values(3 * 20, 7), .experts = 20, .each = 4, .normalise = normalise};
        const Routed clean = call.run(isa);
        call.logits[static_cast<size_t>(20 + where)] = kNaN;

        const Routed routed = call.run(isa);

        for (size_t j = 0; j < 4; ++j) {
          EXPECT_EQ(routed.weights[j], clean.weights[j]) << name_of(isa);
          EXPECT_TRUE(std::isnan(routed.weights[4 + j])) << name_of(isa);
          EXPECT_GE(routed.ids[4 + j], 0) << name_of(isa);
          EXPECT_LT(routed.ids[4 + j], 20) << name_of(isa);
          for (size_t i = 0; i < j; ++i) EXPECT_NE(routed.ids[4 + i], routed.ids[4 + j]) << name_of(isa);
        }
      }
    }
  }
}

TEST(MoeRoute, LeavesExpertsOfMinusInfinityWithoutWeight) {
  const Call call{.logits = {-kInfinity, 0, -kInfinity, 0}, .experts = 4, .each = 3};
  for (const Isa isa : runnable()) {
    const Routed routed = call.run(isa);
    EXPECT_EQ(routed.ids, (std::vector<int32_t>{1, 3, 0})) << name_of(isa);
    EXPECT_EQ(routed.weights, (std::vector<float>{0.5f, 0.5f, 0})) << name_of(isa);
  }
}

TEST(MoeRoute, GivesARowTheSameBitsInEveryBatchAndOnAnyNumberOfThreads) {
  for (const Isa isa : runnable()) {
    const Call whole{.logits = random_values(40 * 60, 9), .experts = 60, .each = 6};
    const Routed expected = whole.run(isa);
    const Routed threads = whole.run(isa, 5);
    EXPECT_EQ(threads.ids, expected.ids);
    EXPECT_EQ(threads.weights, expected.weights);
    for (int64_t t = 0; t < 40; ++t) {
      Call one = whole;
      one.logits.assign(whole.logits.begin() + t * 60, whole.logits.begin() + (t + 1) * 60);
      EXPECT_TRUE(same_bits(one.run(isa).weights.data(), expected.weights.data() + t * 6, 6))
          << name_of(isa) << t;
    }
  }
}

TEST(MoeRoute, NamesWhatDoesNotFit) {
  std::vector<float> logits(12), weights(30);
  std::vector<int32_t> ids(30);
  const LiveRows live(3);
  Stream stream(1);
  const Launcher on{kernel_table(Isa::kReference), stream};
  const auto refusal = [&](const Launcher& where, int64_t each, int64_t rows) {
    return moe_route(where,
                     {.logits = view(logits, {3, 4}),
                      .expert_ids = view(ids, {3, each}),
                      .expert_weights = view(weights, {rows, each}),
                      .num_rows = &live},
                     "test")
        .message();
  };

  EXPECT_EQ(refusal(on, 2, 3), "");
  EXPECT_EQ(refusal(on, 2, 2),
            "moe_route: expert_weights has shape [2, 2]; expected T = 3 as in logits [3, 4]");
  EXPECT_EQ(refusal(on, 5, 3),
            "moe_route: expert_ids [3, 5] asks for 5 experts a row; expected 1 to 4 as in logits [3, 4]");
  const KernelTable empty{.name = "empty"};
  EXPECT_EQ(refusal({empty, stream}, 2, 3),
            "moe_route: the kernel table empty has no such kernel; use the table of another instruction set");
}

}  // namespace
}  // namespace lockstep
