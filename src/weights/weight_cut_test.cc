// Shares of weights: rows by order, columns and experts by cuts, from checkpoints and made up.
#include <gtest/gtest.h>

#include "weights/test_support.h"
#include "weights/weight_loader.h"

namespace lockstep {
namespace {

// What a share of "w" [12, 40] and of 6 experts [4, 40] takes.
struct Taken {
  int64_t row = 0, rows = 0;
  int64_t k_begin = 0, k = 0;
  int64_t expert = 0, experts = 0;
};

constexpr Taken kShares[] = {{.rows = 12, .k = 40, .experts = 6},
                             {.row = 3, .rows = 5, .k_begin = 8, .k = 16, .experts = 3},
                             {.row = 11, .rows = 1, .k_begin = 39, .k = 1, .expert = 5, .experts = 1},
                             {.row = 0, .rows = 7, .k_begin = 5, .k = 35, .expert = 2, .experts = 2},
                             {.row = 6, .rows = 6, .k_begin = 3, .k = 1, .expert = 1, .experts = 4}};

struct Share {
  PackedWeight matrix, experts, packed;
  TensorView vector, conv;
  WeightPlan plan{.family = "toy"};

  explicit Share(const Taken& t, WeightLayout layout = WeightLayout::kPanel32, DType dtype = DType::kF32) {
    const std::vector<RowRun> order = {{t.row, t.rows}};
    plan.matrices = {{.into = &matrix,
                      .name = "m",
                      .k = t.k,
                      .dtype = dtype,
                      .layout = layout,
                      .parts = {{.name = "w", .rows = 12, .order = {{t.row, t.rows}, {kZeroRows, 2}}}},
                      .inputs = {t.k_begin, 40}}};
    plan.tensors = {{.into = &vector, .name = "v", .shape = {t.rows}, .stored = {12}, .order = order},
                    {.into = &conv, .name = "c", .shape = {t.rows, 3}, .stored = {12, 1, 3}, .order = order}};
    for (const auto& [into, name] : {std::pair(&experts, "e.{}"), {&packed, "e"}}) {
      plan.matrices.push_back({.into = into,
                               .name = name,
                               .k = t.k,
                               .experts = t.experts,
                               .dtype = dtype,
                               .layout = layout,
                               .parts = {{.name = name, .rows = 4}},
                               .inputs = {t.k_begin, 40},
                               .held = {t.expert, 6}});
    }
  }
  int64_t elements(const Taken& t) const {
    return t.rows * t.k + 2 * t.experts * 4 * t.k + t.rows + t.rows * 3;
  }
};

struct Source : RandomCheckpoint {
  Source() : RandomCheckpoint(17) {
    add<float>("w", {12, 40});
    add<float>("e", {6, 4, 40});
    for (int i = 0; i < 6; ++i) add<float>("e." + std::to_string(i), {4, 40});
    add<float>("v", {12});
    add<float>("c", {12, 1, 3});
  }
};

TEST(WeightCuts, ReadTheNamedRowsColumnsAndExpertsAndNoOtherByte) {
  const Source source;
  const Checkpoint checkpoint = source.checkpoint();
  for (const Taken& t : kShares) {
    for (const WeightLayout layout : {WeightLayout::kRowMajor, WeightLayout::kPanel32}) {
      Share share(t, layout);
      const auto weights = load_weights(share.plan, checkpoint, {.threads = 2});
      ASSERT_TRUE(weights.ok()) << weights.status().message();
      EXPECT_EQ(weights->bytes_read, 4 * share.elements(t));
      ASSERT_EQ(share.matrix.n, t.rows + 2);
      for (int64_t col = 0; col < t.k; ++col) {
        for (int64_t row = 0; row < t.rows; ++row)
          ASSERT_EQ(element(share.matrix, 0, row, col), source.at("w", t.row + row, t.k_begin + col, 40));
        for (int64_t row = t.rows; row < t.rows + 2; ++row)
          ASSERT_EQ(element(share.matrix, 0, row, col), 0.0f) << "a row of zeros";
        for (int64_t x = 0; x < t.experts; ++x) {
          for (int64_t row = 0; row < 4; ++row) {
            const int64_t of_all = (t.expert + x) * 4 + row;
            ASSERT_EQ(element(share.experts, x, row, col),
                      source.at("e." + std::to_string(t.expert + x), row, t.k_begin + col, 40));
            ASSERT_EQ(element(share.packed, x, row, col), source.at("e", of_all, t.k_begin + col, 40));
          }
        }
      }
      for (int64_t i = 0; i < t.rows; ++i)
        ASSERT_EQ(share.vector.as<float>()[i], source.at("v", t.row + i, 0, 1));
      for (int64_t i = 0; i < t.rows * 3; ++i)
        ASSERT_EQ(share.conv.as<float>()[i], source.at("c", t.row * 3 + i, 0, 1));
    }
  }
}

TEST(WeightCuts, TakeFewerBytesOfAFileThanAllOfIt) {
  const Source source;
  const Checkpoint checkpoint = source.checkpoint();
  Share whole(kShares[0]), half({.rows = 6, .k_begin = 20, .k = 20, .expert = 3, .experts = 3});

  const auto all = load_weights(whole.plan, checkpoint, {});
  const auto part = load_weights(half.plan, checkpoint, {});

  EXPECT_EQ(all->bytes_read, checkpoint.total_bytes());
  // A quarter of the matrices, half of the vectors.
  EXPECT_EQ(part->bytes_read, 4 * (12 * 40 / 4 + 2 * 6 * 4 * 40 / 4 + 12 / 2 + 12 * 3 / 2));
}

TEST(DummyWeights, GiveAnElementTheSameValueInEveryShare) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    Share whole(kShares[0], WeightLayout::kPanel32, dtype);
    const LoadedWeights kept = make_dummy_weights(whole.plan, 5, {}).value();
    for (const Taken& t : kShares) {
      Share share(t, WeightLayout::kPanel32, dtype);
      const LoadedWeights kept_too = make_dummy_weights(share.plan, 5, {.threads = 2}).value();
      for (int64_t col = 0; col < t.k; ++col) {
        for (int64_t row = 0; row < t.rows; ++row)
          ASSERT_EQ(element(share.matrix, 0, row, col),
                    element(whole.matrix, 0, t.row + row, t.k_begin + col));
        ASSERT_EQ(element(share.matrix, 0, t.rows, col), 0.0f);
        for (int64_t x = 0; x < t.experts; ++x) {
          ASSERT_EQ(element(share.experts, x, 3, col),
                    element(whole.experts, t.expert + x, 3, t.k_begin + col));
          ASSERT_EQ(element(share.packed, x, 3, col),
                    element(whole.packed, t.expert + x, 3, t.k_begin + col));
        }
      }
      for (int64_t i = 0; i < t.rows; ++i)
        ASSERT_EQ(share.vector.as<float>()[i], whole.vector.as<float>()[t.row + i]);
      for (int64_t i = 0; i < t.rows * 3; ++i)
        ASSERT_EQ(share.conv.as<float>()[i], whole.conv.as<float>()[t.row * 3 + i]);
    }
  }
}

TEST(WeightCuts, AreRefusedWhereTheyLeaveTheirSource) {
  const auto message = [](const auto& spoil) {
    Share share(kShares[1]);
    spoil(share.plan);
    return weight_footprint(share.plan).status().message();
  };

  EXPECT_EQ(message([](WeightPlan&) {}), "");
  EXPECT_EQ(message([](WeightPlan& plan) { plan.matrices[0].inputs.begin = 25; }),
            "weights: m takes inputs 25 to 41 of w; expected inputs within 0 to 40");
  EXPECT_EQ(message([](WeightPlan& plan) { plan.matrices[1].held.begin = 4; }),
            "weights: e.{} takes experts 4 to 7 of e.{}; expected experts within 0 to 6");
  EXPECT_EQ(message([](WeightPlan& plan) { plan.matrices[0].parts[0].order[0].begin = 8; }),
            "weights: m takes rows 8 to 13 of w; expected rows within 0 to 12");
  EXPECT_EQ(message([](WeightPlan& plan) { plan.tensors[1].order[0].begin = 8; }),
            "weights: c takes rows 8 to 13 of c; expected rows within 0 to 12");
  EXPECT_EQ(message([](WeightPlan& plan) {
              plan.tensors[1].order.push_back({0, 1});
            }),
            "weights: c is [12, 1, 3] on disk and [5, 3] in memory; expected the same number of elements");
}

TEST(WeightCuts, HoldTheCheckpointToTheShapesOfTheWhole) {
  const Source source;
  const Checkpoint checkpoint = source.checkpoint();
  Share share(kShares[2]);
  EXPECT_EQ(check_weights(share.plan, checkpoint).message(), "");
  share.plan.matrices[0].inputs.whole = 41;
  EXPECT_EQ(check_weights(share.plan, checkpoint).message(),
            "toy: w has shape [12, 40]; expected [12, 41]; check that config.json belongs to these weights");
  share.plan.matrices[0].inputs.whole = 40;
  share.plan.matrices[1].held.whole = 7;
  EXPECT_EQ(check_weights(share.plan, checkpoint).message(),
            concat("toy: ", checkpoint.path(),
                   " has no tensor e.6; expected it with shape [4, 40]; check that config.json belongs to "
                   "these weights"));
}

}  // namespace
}  // namespace lockstep
