// Lightning attention where numbers may enter products rounded to bf16.
#include <gtest/gtest.h>

#include "kernels/common/rounded.h"
#include "kernels/lightning/lightning_problem.h"

namespace lockstep {
namespace {

using namespace testing;  // NOLINT

// The device's kernels where there is one: a CPU's compute the same without rounding.
const KernelTable& table() { return *runnable_tables().back(); }

LightningProblem rounded(const LightningShape& shape, const SequenceBatch& batch, int64_t slots,
                         uint32_t seed) {
  LightningProblem problem(shape, batch, slots, seed);
  problem.input = MatmulInput::kBF16;
  return problem;
}

// Outputs and kept states of sequence s; `initial` as the states were before the run.
void expect_near(const LightningProblem& ran, const std::vector<float>& initial, int64_t s) {
  const auto [heads, key_heads, dk, dv] = ran.shape;
  const auto at = static_cast<size_t>(s);
  const int64_t begin = ran.batch.query_start_loc[at], end = ran.batch.query_start_loc[at + 1];
  const float* from =
      ran.batch.has_state[at] != 0 ? initial.data() + ran.batch.read_slots[at] * ran.slot_size() : nullptr;
  for (int64_t h = 0; h < heads && begin < end; ++h) {
    const LightningTruth truth = lightning_truth(ran, s, h, from);
    Distance outputs, states;
    for (int64_t i = 0; i < (end - begin) * dv; ++i) {
      const float got = ran.row(begin + i / dv)[h * dv + i % dv];
      outputs.add(got, truth.out[static_cast<size_t>(i)]);
      if (end - begin > 1) continue;
      ASSERT_NEAR(got, truth.out[static_cast<size_t>(i)], out_tolerance(truth, ran.shape, 1));
    }
    for (int64_t t = begin; t < end; ++t) {
      const int64_t slot = ran.batch.write_slots[static_cast<size_t>(t)];
      for (int64_t i = 0; slot >= 0 && i < dk * dv; ++i)
        states.add(ran.slot(slot)[h * dk * dv + i],
                   truth.states[static_cast<size_t>(t - begin)][static_cast<size_t>(i)]);
    }
    EXPECT_LE(outputs.get(), kRoundedDistance)
        << "sequence " << s << " of " << end - begin << " rows, head " << h;
    EXPECT_LE(states.get(), kRoundedDistance) << "state of sequence " << s << ", head " << h;
  }
}

TEST(RoundedLightning, IsOffByItsRoundingsAtMost) {
  for (const LightningShape& shape :
       {LightningShape{2, 2, 128, 128}, LightningShape{4, 2, 64, 64}, LightningShape{3, 1, 128, 32}}) {
    LightningProblem problem = rounded(shape, awkward_batch(), 13, 20);
    for (const int64_t slot : {4, 9})  // of sequences that begin without a state
      std::fill_n(problem.state.begin() + slot * problem.slot_size(), problem.slot_size(), kNan);
    const std::vector<float> initial = problem.state;
    ASSERT_TRUE(problem.run(table()).ok());
    for (int64_t s = 0; s < problem.batch.num_seqs.get(); ++s) expect_near(problem, initial, s);
    for (int64_t t = problem.batch.num_rows.get(); t < problem.batch.rows(); ++t) {
      for (int64_t i = 0; i < shape.heads * shape.value_dim; ++i) ASSERT_EQ(problem.row(t)[i], 0.0f);
    }
    for (const int64_t slot : {0, 3, 5, 8, 11, 12}) {
      EXPECT_TRUE(
          same_bits(problem.slot(slot), initial.data() + slot * problem.slot_size(), problem.slot_size()))
          << "slot " << slot;
    }
  }
}

TEST(RoundedLightning, StaysNearTheTruthOverLongSequences) {
  LightningProblem problem =
      rounded({2, 1, 128, 32}, SequenceBatch({{.rows = 8192, .read_slot = 1, .write_slots = {1}}}), 2, 32);
  problem.decay = {0.3f, 0.9999f};
  const std::vector<float> initial = problem.state;
  ASSERT_TRUE(problem.run(table(), 2).ok());
  expect_near(problem, initial, 0);
}

TEST(RoundedLightning, GoesRowByRowWhereAStateIsKeptOnTheWay) {
  LightningProblem problem = rounded({2, 1, 64, 32},
                                     SequenceBatch({{.rows = 5, .read_slot = 2, .write_slots = {5, 2, 3}},
                                                    {.rows = 70, .read_slot = 4, .write_slots = {4, 6}},
                                                    {.rows = 70, .read_slot = 1, .write_slots = {1}}}),
                                     7, 22);
  const std::vector<float> initial = problem.state;
  ASSERT_TRUE(problem.run(table()).ok());
  for (int64_t s = 0; s < 3; ++s) expect_near(problem, initial, s);
}

// Sequence `s` of a batch as a step of its own.
LightningProblem alone_of(const LightningProblem& batch, int64_t s) {
  const auto at = static_cast<size_t>(s);
  const int32_t begin = batch.batch.query_start_loc[at], end = batch.batch.query_start_loc[at + 1];
  const int32_t slot = batch.batch.write_slots[static_cast<size_t>(end - 1)];
  LightningProblem alone = rounded(batch.shape,
                                   SequenceBatch({{.rows = end - begin,
                                                   .read_slot = batch.batch.read_slots[at],
                                                   .has_state = batch.batch.has_state[at] != 0,
                                                   .write_slots = {slot}}},
                                                 3),
                                   batch.slots, 1);
  alone.query_len = end - begin;
  alone.state = batch.state;
  std::copy_n(batch.qkv.begin() + begin * static_cast<int64_t>(batch.width()),
              static_cast<size_t>(end - begin) * batch.width(), alone.qkv.begin());
  return alone;
}

TEST(RoundedLightning, GivesTheSameBitsAloneAndInABatchWithNanBesideIt) {
  const LightningShape shape{4, 2, 64, 64};
  for (const int64_t s : {0, 1, 4, 5, 8}) {
    LightningProblem batch = rounded(shape, awkward_batch(), 13, 24);
    LightningProblem alone = alone_of(batch, s);
    const int64_t begin = batch.batch.query_start_loc[static_cast<size_t>(s)],
                  end = batch.batch.query_start_loc[static_cast<size_t>(s) + 1];
    for (int64_t t = 0; t < batch.batch.rows(); ++t) {
      if (t < begin || t >= end)
        std::fill_n(batch.qkv.begin() + t * static_cast<int64_t>(batch.width()), batch.width(), kNan);
    }
    ASSERT_TRUE(batch.run(table()).ok());
    ASSERT_TRUE(alone.run(table()).ok());
    const int64_t slot = batch.batch.write_slots[static_cast<size_t>(end - 1)];
    EXPECT_TRUE(same_bits(alone.row(0), batch.row(begin), (end - begin) * shape.heads * shape.value_dim))
        << "sequence " << s;
    EXPECT_TRUE(same_bits(alone.slot(slot), batch.slot(slot), batch.slot_size())) << "sequence " << s;
  }
}

}  // namespace
}  // namespace lockstep
