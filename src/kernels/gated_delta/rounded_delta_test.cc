// Gated delta where numbers may enter products rounded to bf16.
#include <gtest/gtest.h>

#include "kernels/common/rounded.h"
#include "kernels/gated_delta/delta_problem.h"

namespace lockstep {
namespace {

using namespace testing;  // NOLINT

// The device's kernels where there is one: a CPU's compute the same without rounding.
const KernelTable& table() { return *runnable_tables().back(); }

DeltaProblem rounded(const DeltaShape& shape, const SequenceBatch& batch, int64_t slots, uint32_t seed) {
  DeltaProblem problem(shape, batch, slots, seed);
  problem.input = MatmulInput::kBF16;
  return problem;
}

// Whether a sequence goes row by row, as exact as f32.
bool goes_by_rows(const DeltaProblem& problem, int64_t begin, int64_t end) {
  const auto& slots = problem.batch.write_slots;
  return end - begin == 1 ||
         std::any_of(slots.begin() + begin, slots.begin() + end - 1, [](int32_t slot) { return slot >= 0; });
}

void expect_row_by_row(const DeltaProblem& ran, const DeltaTruth& truth, int64_t begin, int64_t rows,
                       int64_t h) {
  const int64_t dv = ran.shape.value_dim;
  for (int64_t i = 0; i < rows * dv; ++i)
    ASSERT_NEAR(ran.row(begin + i / dv)[h * dv + i % dv], truth.out[static_cast<size_t>(i)],
                delta_tolerance(truth, ran.shape, rows));
}

// Outputs and kept states of sequence s; `initial` as the states were before the run.
void expect_near(const DeltaProblem& ran, const std::vector<float>& initial, int64_t s) {
  const auto [key_heads, value_heads, dk, dv] = ran.shape;
  const auto at = static_cast<size_t>(s);
  const int64_t begin = ran.batch.query_start_loc[at], end = ran.batch.query_start_loc[at + 1];
  const float* from =
      ran.batch.has_state[at] != 0 ? initial.data() + ran.batch.read_slots[at] * ran.slot_size() : nullptr;
  for (int64_t h = 0; h < value_heads && begin < end; ++h) {
    const DeltaTruth truth = delta_truth(ran, s, h, from);
    if (goes_by_rows(ran, begin, end)) expect_row_by_row(ran, truth, begin, end - begin, h);
    Distance outputs, states;
    for (int64_t i = 0; i < (end - begin) * dv; ++i)
      outputs.add(ran.row(begin + i / dv)[h * dv + i % dv], truth.out[static_cast<size_t>(i)]);
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

TEST(RoundedDelta, IsOffByItsRoundingsAtMost) {
  for (const DeltaShape& shape : {DeltaShape{1, 2, 128, 128}, DeltaShape{2, 2, 64, 64},
                                  DeltaShape{1, 3, 128, 32}, DeltaShape{1, 5, 64, 96}}) {
    DeltaProblem problem = rounded(shape, awkward_batch(), 13, 20);
    for (const int64_t slot : {4, 9})  // of sequences that begin without a state
      std::fill_n(problem.state.begin() + slot * problem.slot_size(), problem.slot_size(), kNan);
    const std::vector<float> initial = problem.state;
    ASSERT_TRUE(problem.run(table()).ok());
    for (int64_t s = 0; s < problem.batch.num_seqs.get(); ++s) expect_near(problem, initial, s);
    for (int64_t t = problem.batch.num_rows.get(); t < problem.batch.rows(); ++t) {
      for (int64_t i = 0; i < shape.value_heads * shape.value_dim; ++i) ASSERT_EQ(problem.row(t)[i], 0.0f);
    }
    for (const int64_t slot : {0, 3, 5, 8, 11, 12}) {
      EXPECT_TRUE(
          same_bits(problem.slot(slot), initial.data() + slot * problem.slot_size(), problem.slot_size()))
          << "slot " << slot;
    }
  }
}

// One head forgets a state within a few rows, one keeps it for thousands.
TEST(RoundedDelta, StaysNearTheTruthOverLongSequences) {
  DeltaProblem problem =
      rounded({1, 2, 128, 32}, SequenceBatch({{.rows = 8192, .read_slot = 1, .write_slots = {1}}}), 2, 32);
  problem.a_log = {2, -7};
  const std::vector<float> initial = problem.state;
  ASSERT_TRUE(problem.run(table(), 2).ok());
  expect_near(problem, initial, 0);
}

TEST(RoundedDelta, SurvivesDecaysThatLeaveNothing) {
  DeltaProblem problem =
      rounded({1, 1, 64, 32}, SequenceBatch({{.rows = 130, .read_slot = 1, .write_slots = {1}}}), 2, 25);
  problem.a_log = {5};
  for (size_t t = 0; t < 130; ++t) problem.ba[2 * t + 1] = t % 3 == 0 ? 200.0f : -20.0f;
  const std::vector<float> initial = problem.state;
  ASSERT_TRUE(problem.run(table()).ok());
  expect_near(problem, initial, 0);
}

TEST(RoundedDelta, GoesRowByRowWhereAStateIsKeptOnTheWay) {
  DeltaProblem problem = rounded({1, 2, 64, 32},
                                 SequenceBatch({{.rows = 5, .read_slot = 2, .write_slots = {5, 2, 3}},
                                                {.rows = 70, .read_slot = 4, .write_slots = {4, 6}},
                                                {.rows = 70, .read_slot = 1, .write_slots = {1}}}),
                                 7, 22);
  const std::vector<float> initial = problem.state;
  ASSERT_TRUE(problem.run(table()).ok());
  for (int64_t s = 0; s < 3; ++s) expect_near(problem, initial, s);
}

// Sequence `s` of a batch as a step of its own.
DeltaProblem alone_of(const DeltaProblem& batch, int64_t s) {
  const auto at = static_cast<size_t>(s);
  const int32_t begin = batch.batch.query_start_loc[at], end = batch.batch.query_start_loc[at + 1];
  const int32_t slot = batch.batch.write_slots[static_cast<size_t>(end - 1)];
  DeltaProblem alone = rounded(batch.shape,
                               SequenceBatch({{.rows = end - begin,
                                               .read_slot = batch.batch.read_slots[at],
                                               .has_state = batch.batch.has_state[at] != 0,
                                               .write_slots = {slot}}},
                                             3),
                               batch.slots, 1);
  alone.query_len = end - begin;
  alone.a_log = batch.a_log, alone.dt_bias = batch.dt_bias, alone.state = batch.state;
  const auto copy = [&](const std::vector<float>& from, std::vector<float>& to, size_t width) {
    std::copy_n(from.begin() + begin * static_cast<int64_t>(width), static_cast<size_t>(end - begin) * width,
                to.begin());
  };
  copy(batch.qkv, alone.qkv, batch.width());
  copy(batch.ba, alone.ba, batch.ba_width());
  return alone;
}

TEST(RoundedDelta, GivesTheSameBitsAloneAndInABatchWithNanBesideIt) {
  for (const DeltaShape& shape : {DeltaShape{2, 4, 64, 64}, DeltaShape{1, 2, 128, 32}}) {
    for (const int64_t s : {0, 1, 4, 5, 8}) {
      DeltaProblem batch = rounded(shape, awkward_batch(), 13, 24);
      DeltaProblem alone = alone_of(batch, s);
      const int64_t begin = batch.batch.query_start_loc[static_cast<size_t>(s)],
                    end = batch.batch.query_start_loc[static_cast<size_t>(s) + 1];
      for (int64_t t = 0; t < batch.batch.rows(); ++t) {
        if (t < begin || t >= end)
          std::fill_n(batch.qkv.begin() + t * static_cast<int64_t>(batch.width()), batch.width(), kNan);
      }
      ASSERT_TRUE(batch.run(table()).ok());
      ASSERT_TRUE(alone.run(table()).ok());
      const int64_t slot = batch.batch.write_slots[static_cast<size_t>(end - 1)];
      EXPECT_TRUE(
          same_bits(alone.row(0), batch.row(begin), (end - begin) * shape.value_heads * shape.value_dim))
          << "sequence " << s;
      EXPECT_TRUE(same_bits(alone.slot(slot), batch.slot(slot), batch.slot_size())) << "sequence " << s;
    }
  }
}

TEST(RoundedDelta, ContinuesFromAnySplit) {
  const DeltaShape shape{1, 2, 64, 32};
  const DeltaProblem whole =
      rounded(shape, SequenceBatch({{.rows = 150, .read_slot = 1, .write_slots = {1}}}), 2, 23);
  const std::vector<float> initial = whole.state;
  for (const int32_t split : {1, 3, 63, 64, 65, 128, 149}) {
    DeltaProblem joined = whole;
    std::vector<float> state = initial;
    for (const auto& [begin, count] : {std::pair{0, split}, {split, 150 - split}}) {
      DeltaProblem part =
          rounded(shape, SequenceBatch({{.rows = count, .read_slot = 1, .write_slots = {1}}}, 2), 2, 23);
      const auto from = [&](size_t width) { return begin * static_cast<int64_t>(width); };
      const auto size = [&](size_t width) { return static_cast<size_t>(count) * width; };
      std::copy_n(whole.qkv.begin() + from(whole.width()), size(whole.width()), part.qkv.begin());
      std::copy_n(whole.ba.begin() + from(whole.ba_width()), size(whole.ba_width()), part.ba.begin());
      part.a_log = whole.a_log, part.dt_bias = whole.dt_bias, part.state = state;
      ASSERT_TRUE(part.run(table()).ok());
      std::copy_n(part.out.begin(), size(64), joined.out.begin() + from(64));
      state = part.state;
    }
    joined.state = state;
    expect_near(joined, initial, 0);
  }
}

}  // namespace
}  // namespace lockstep
