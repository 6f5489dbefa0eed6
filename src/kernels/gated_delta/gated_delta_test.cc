#include "kernels/gated_delta/gated_delta.h"

#include <gtest/gtest.h>

#include "kernels/gated_delta/delta_problem.h"

namespace lockstep {
namespace {

using namespace testing;  // NOLINT

// Compares every live row's output and the last state of sequence s with the recurrence; `initial` as the
// state was before the run.
void expect_truth(const DeltaProblem& ran, const std::vector<float>& initial, int64_t s, const char* table) {
  const auto [key_heads, value_heads, dk, dv] = ran.shape;
  const auto at = static_cast<size_t>(s);
  const int64_t begin = ran.batch.query_start_loc[at];
  const int64_t rows = ran.batch.query_start_loc[at + 1] - begin;
  if (rows == 0) return;
  const float* from =
      ran.batch.has_state[at] != 0 ? initial.data() + ran.batch.read_slots[at] * ran.slot_size() : nullptr;
  for (int64_t h = 0; h < value_heads; ++h) {
    const DeltaTruth truth = delta_truth(ran, s, h, from);
    for (int64_t i = 0; i < rows * dv; ++i) {
      const float actual = ran.row(begin + i / dv)[h * dv + i % dv];
      ASSERT_NEAR(actual, truth.out[static_cast<size_t>(i)], delta_tolerance(truth, ran.shape, rows))
          << table << " sequence " << s << " of " << rows << " rows, head " << h << ", row " << i / dv;
    }
    for (int64_t t = 0; t < rows; ++t) {
      const int64_t slot = ran.batch.write_slots[static_cast<size_t>(begin + t)];
      if (slot < 0) continue;
      for (int64_t i = 0; i < dk * dv; ++i) {
        ASSERT_NEAR(ran.slot(slot)[h * dk * dv + i],
                    truth.states[static_cast<size_t>(t)][static_cast<size_t>(i)],
                    delta_tolerance(truth, ran.shape, rows))
            << table << " sequence " << s << " head " << h << ", state after row " << t;
      }
    }
  }
}

bool same_bytes(const float* a, const float* b, int64_t count) {
  return std::memcmp(a, b, static_cast<size_t>(count) * sizeof(float)) == 0;
}

TEST(GatedDelta, UpdatesAStateByHand) {
  // k = (0.6, 0.8), beta = 1/2, decay = 1/2: (1, 2) decays to (0.5, 1) and predicts 1.1 where v is 2.1, so
  // half of what is missing goes in: (0.8, 1.4). q = (1, 0) / sqrt 2.
  for (const KernelTable* table : runnable_tables()) {
    DeltaProblem problem({1, 1, 2, 1}, SequenceBatch({{.rows = 1, .read_slot = 1, .write_slots = {1}}}), 2,
                         1);
    problem.qkv = {1000, 0, 3000, 4000, 2.1f};
    problem.ba = {0, 0};
    problem.a_log = problem.dt_bias = {0};
    problem.state = {7, 7, 1, 2};

    ASSERT_TRUE(problem.run(*table).ok());

    EXPECT_FLOAT_EQ(problem.out[0], 0.8f / std::sqrt(2.0f)) << table->name;
    EXPECT_FLOAT_EQ(problem.state[2], 0.8f) << table->name;
    EXPECT_FLOAT_EQ(problem.state[3], 1.4f) << table->name;
  }
}

TEST(GatedDelta, EqualsTheRecurrenceForAwkwardLengthsAndSizes) {
  const std::vector<DeltaShape> shapes = {{1, 1, 16, 16}, {2, 4, 16, 32},   {2, 2, 32, 16}, {1, 3, 64, 64},
                                          {2, 4, 24, 40}, {1, 2, 128, 128}, {1, 1, 7, 5}};
  for (const DeltaShape& shape : shapes) {
    for (const KernelTable* table : runnable_tables()) {
      DeltaProblem problem(shape, awkward_batch(), 13, 20);
      // Sequences without a state begin from zeros whatever their slots hold.
      for (const int64_t slot : {4, 9}) {
        std::fill_n(problem.state.begin() + slot * problem.slot_size(), problem.slot_size(), kNan);
      }
      const std::vector<float> initial = problem.state;
      ASSERT_TRUE(problem.run(*table).ok());
      for (int64_t s = 0; s < problem.batch.num_seqs.get(); ++s) {
        expect_truth(problem, initial, s, table->name.data());
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST(GatedDelta, WritesZerosToPadRowsAndNothingToOtherSlots) {
  for (const KernelTable* table : runnable_tables()) {
    DeltaProblem problem({2, 4, 16, 24}, awkward_batch(), 13, 21);
    std::fill_n(problem.state.begin(), problem.slot_size(), kNan);  // the pad state
    const std::vector<float> initial = problem.state;
    ASSERT_TRUE(problem.run(*table, 2).ok());
    for (int64_t t = problem.batch.num_rows.get(); t < problem.batch.rows(); ++t) {
      for (int64_t i = 0; i < 4 * 24; ++i) EXPECT_EQ(problem.row(t)[i], 0.0f) << table->name << " row " << t;
    }
    for (const int64_t slot : {0, 3, 5, 8, 11, 12}) {
      EXPECT_TRUE(
          same_bytes(problem.slot(slot), initial.data() + slot * problem.slot_size(), problem.slot_size()))
          << table->name << " slot " << slot;
    }
    for (const int64_t slot : {1, 2, 4, 6, 7, 9, 10}) {
      EXPECT_FALSE(
          same_bytes(problem.slot(slot), initial.data() + slot * problem.slot_size(), problem.slot_size()))
          << table->name << " slot " << slot;
    }
  }
}

TEST(GatedDelta, KeepsTheStateAfterEveryRowThatNamesASlot) {
  for (const KernelTable* table : runnable_tables()) {
    // Rows 0 and 1 write nowhere, rows 2, 3 and 4 to slots 5, 2 and 3; slot 2 is also the read slot.
    DeltaProblem problem({1, 2, 32, 24},
                         SequenceBatch({{.rows = 5, .read_slot = 2, .write_slots = {5, 2, 3}},
                                        {.rows = 2, .read_slot = 4, .write_slots = {4, 6}}}),
                         7, 22);
    const std::vector<float> initial = problem.state;
    ASSERT_TRUE(problem.run(*table).ok());
    for (int64_t s = 0; s < 2; ++s) expect_truth(problem, initial, s, table->name.data());
    EXPECT_TRUE(same_bytes(problem.slot(1), initial.data() + problem.slot_size(), problem.slot_size()));
  }
}

// One sequence of 150 rows at once against the same rows in two steps.
TEST(GatedDelta, ContinuesFromAnySplit) {
  const DeltaShape shape{1, 2, 32, 24};
  for (const KernelTable* table : runnable_tables()) {
    for (const int32_t split : {1, 3, 4, 63, 64, 65, 127, 128}) {
      DeltaProblem whole(shape, SequenceBatch({{.rows = 150, .read_slot = 1, .write_slots = {1}}}), 2, 23);
      DeltaProblem head(shape, SequenceBatch({{.rows = split, .read_slot = 1, .write_slots = {1}}}), 2, 23);
      DeltaProblem tail(shape, SequenceBatch({{.rows = 150 - split, .read_slot = 1, .write_slots = {1}}}), 2,
                        23);
      const auto cut = static_cast<int64_t>(static_cast<size_t>(split) * whole.width());
      const auto ba_cut = static_cast<int64_t>(static_cast<size_t>(split) * whole.ba_width());
      head.qkv.assign(whole.qkv.begin(), whole.qkv.begin() + cut);
      head.ba.assign(whole.ba.begin(), whole.ba.begin() + ba_cut);
      tail.qkv.assign(whole.qkv.begin() + cut, whole.qkv.end());
      tail.ba.assign(whole.ba.begin() + ba_cut, whole.ba.end());
      for (DeltaProblem* part : {&head, &tail}) {
        part->a_log = whole.a_log;
        part->dt_bias = whole.dt_bias;
      }
      head.state = whole.state;
      const DeltaTruth truth = delta_truth(whole, 0, 0, whole.slot(1));
      ASSERT_TRUE(whole.run(*table).ok());
      ASSERT_TRUE(head.run(*table).ok());
      tail.state = head.state;
      ASSERT_TRUE(tail.run(*table).ok());
      // Two computations of the same value: twice the tolerance of one.
      const double tolerance = 2 * delta_tolerance(truth, shape, 150);
      for (int64_t t = 0; t < 150; ++t) {
        const float* parts = t < split ? head.row(t) : tail.row(t - split);
        for (int64_t i = 0; i < shape.value_dim; ++i) {
          ASSERT_NEAR(whole.row(t)[i], parts[i], tolerance)
              << table->name << " split " << split << " row " << t;
        }
      }
      for (int64_t i = 0; i < shape.key_dim * shape.value_dim; ++i) {
        ASSERT_NEAR(whole.slot(1)[i], tail.slot(1)[i], 2 * delta_tolerance(truth, shape, 150)) << table->name;
      }
    }
  }
}

TEST(GatedDelta, GivesTheSameBitsAloneAndInABatchOnAnyNumberOfThreads) {
  const DeltaShape shape{2, 4, 32, 40};
  for (const KernelTable* table : runnable_tables()) {
    DeltaProblem batch(shape, awkward_batch(), 13, 24);
    ASSERT_TRUE(batch.run(*table).ok());
    for (const int threads : {2, 5}) {
      DeltaProblem again(shape, awkward_batch(), 13, 24);
      ASSERT_TRUE(again.run(*table, threads).ok());
      EXPECT_TRUE(same_bytes(batch.out.data(), again.out.data(), static_cast<int64_t>(batch.out.size())));
      EXPECT_TRUE(
          same_bytes(batch.state.data(), again.state.data(), static_cast<int64_t>(batch.state.size())));
    }
    // Sequence 5 of the batch, 150 rows after 133 others, by itself.
    DeltaProblem alone(shape, SequenceBatch({{.rows = 150, .read_slot = 7, .write_slots = {7}}}, 3), 13, 24);
    const DeltaProblem fresh(shape, awkward_batch(), 13, 24);
    const int64_t begin = fresh.batch.query_start_loc[5];
    alone.a_log = fresh.a_log;
    alone.dt_bias = fresh.dt_bias;
    alone.state = fresh.state;
    std::copy_n(fresh.qkv.begin() + begin * static_cast<int64_t>(fresh.width()), 150 * fresh.width(),
                alone.qkv.begin());
    std::copy_n(fresh.ba.begin() + begin * static_cast<int64_t>(fresh.ba_width()), 150 * fresh.ba_width(),
                alone.ba.begin());
    ASSERT_TRUE(alone.run(*table).ok());
    EXPECT_TRUE(same_bytes(alone.row(0), batch.row(begin), 150 * shape.value_heads * shape.value_dim))
        << table->name;
    EXPECT_TRUE(same_bytes(alone.slot(7), batch.slot(7), batch.slot_size())) << table->name;
  }
}

// Every head stands exactly where one thread's share ends and the next begins.
TEST(GatedDelta, UpdatesEachStateOnceWhereSharesMeet) {
  std::vector<SequenceSpec> sequences;
  for (int32_t s = 1; s <= 8; ++s) sequences.push_back({.rows = 1, .read_slot = s, .write_slots = {s}});
  for (const KernelTable* table : runnable_tables()) {
    for (const int threads : {1, 2, 4, 8}) {
      DeltaProblem problem({2, 4, 16, 16}, SequenceBatch(sequences), 9, 31);
      const std::vector<float> initial = problem.state;
      ASSERT_TRUE(problem.run(*table, threads).ok());
      for (int64_t s = 0; s < 8; ++s) expect_truth(problem, initial, s, table->name.data());
    }
  }
}

TEST(GatedDelta, SurvivesDecaysThatLeaveNothing) {
  for (const KernelTable* table : runnable_tables()) {
    // a_log 5 and a 200 give a log decay of -29683 a row: e^(G_j - G_i) above the diagonal is infinite.
    DeltaProblem problem({1, 1, 16, 16}, SequenceBatch({{.rows = 70, .read_slot = 1, .write_slots = {1}}}), 2,
                         25);
    problem.a_log = {5};
    for (size_t t = 0; t < 70; ++t) problem.ba[2 * t + 1] = t % 3 == 0 ? 200.0f : -20.0f;
    const std::vector<float> initial = problem.state;
    ASSERT_TRUE(problem.run(*table).ok());
    expect_truth(problem, initial, 0, table->name.data());
  }
}

TEST(GatedDelta, PassesNanOnWithinItsOwnSequenceAndHead) {
  for (const KernelTable* table : runnable_tables()) {
    DeltaProblem problem({2, 2, 16, 16},
                         SequenceBatch({{.rows = 70, .read_slot = 1, .write_slots = {1}},
                                        {.rows = 70, .read_slot = 2, .write_slots = {2}}}),
                         3, 26);
    const size_t value = 10 * problem.width() + 2 * 2 * 16 + 16 + 3;  // row 10, value head 1, column 3
    problem.qkv[value] = kNan;
    ASSERT_TRUE(problem.run(*table).ok());
    for (int64_t t = 0; t < 140; ++t) {
      for (int64_t i = 0; i < 32; ++i) {
        const bool reached = t >= 10 && t < 70 && i == 19;
        ASSERT_EQ(std::isnan(problem.row(t)[i]), reached) << table->name << " row " << t << " column " << i;
      }
    }
  }
}

TEST(GatedDelta, RunsAStepWithoutLiveRows) {
  for (const KernelTable* table : runnable_tables()) {
    DeltaProblem problem({1, 1, 16, 16}, SequenceBatch({}, 3), 2, 27);
    const std::vector<float> initial = problem.state;
    ASSERT_TRUE(problem.run(*table, 2).ok());
    EXPECT_EQ(problem.out, std::vector<float>(48, 0.0f));
    EXPECT_EQ(problem.state, initial);
    DeltaProblem nothing({1, 1, 16, 16}, SequenceBatch({}), 2, 28);
    EXPECT_TRUE(nothing.run(*table).ok());
  }
}

// The refusal of a problem whose arguments `change` has spoilt.
template <typename Change>
std::string refusal(Change&& change) {
  DeltaProblem problem({2, 4, 16, 24}, SequenceBatch({{.rows = 5}}, 2), 3, 29);
  Stream stream(2);
  std::vector<char> workspace;
  GatedDeltaArgs args = problem.args(workspace, 2);
  change(args);
  const Status status = gated_delta({kernel_table(Isa::kReference), stream}, args, "test");
  EXPECT_EQ(status.code(), Code::kInvalidArgument);
  return status.message();
}

TEST(GatedDelta, NamesWhatDoesNotFit) {
  EXPECT_EQ(refusal([](GatedDeltaArgs& args) { args.k.dtype = DType::kBF16; }),
            "gated_delta: k is bf16; expected f32");
  EXPECT_EQ(refusal([](GatedDeltaArgs& args) { args.state.shape.dims[3] = 16; }),
            "gated_delta: state has shape [3, 4, 16, 16]; expected E = 24 as in v [7, 4, 24]");
  EXPECT_EQ(refusal([](GatedDeltaArgs& args) { args.q.shape.dims[1] = args.k.shape.dims[1] = 3; }),
            "gated_delta: v [7, 4, 24] has 4 heads; expected a multiple of the 3 heads of q [7, 3, 16]");
  EXPECT_EQ(refusal([](GatedDeltaArgs& args) { args.state.strides[1] = 400; }),
            "gated_delta: state [3, 4, 16, 24] has gaps inside a slot or slots that overlap; expected dense "
            "slots, 1536 elements or more apart");
  EXPECT_EQ(refusal([](GatedDeltaArgs& args) { args.query_start_loc.shape.dims[0] = 2; }),
            "gated_delta: query_start_loc has shape [2]; expected [3], one more than state_read_slot [2]");
  EXPECT_EQ(refusal([](GatedDeltaArgs& args) { args.state_write_slots.shape.dims[0] = 6; }),
            "gated_delta: state_write_slots has shape [6]; expected [7], one per row");
  EXPECT_EQ(refusal([](GatedDeltaArgs& args) { args.workspace.shape.dims[0] = 64; }),
            concat("gated_delta: workspace has 64 bytes; expected at least ",
                   gated_delta_workspace_bytes(2, 16, 24)));
  EXPECT_EQ(refusal([](GatedDeltaArgs& args) { args.num_seqs = nullptr; }),
            "gated_delta: num_seqs is null; expected the address of a count");
}

TEST(GatedDelta, NamesATableWithoutAKernel) {
  DeltaProblem problem({1, 1, 16, 16}, SequenceBatch({SequenceSpec{}}), 2, 30);
  const KernelTable empty{.name = "empty"};
  const Status status = problem.run(empty);
  EXPECT_EQ(status.code(), Code::kUnimplemented);
  EXPECT_EQ(
      status.message(),
      "gated_delta: the kernel table empty has no such kernel; use the table of another instruction set");
}

// The first `count` sequences from `first` on, as whoever runs a step in parts gives them.
GatedDeltaArgs some_of(GatedDeltaArgs args, int64_t first, int64_t count) {
  args.query_start_loc = args.query_start_loc.rows(first, count + 1);
  args.state_read_slot = args.state_read_slot.rows(first, count);
  args.has_initial_state = args.has_initial_state.rows(first, count);
  return args;
}

TEST(GatedDeltaPart, LeavesTheRowsOfOtherSequencesAsTheyAre) {
  for (const KernelTable* table : runnable_tables()) {
    const DeltaShape shape{.key_heads = 2, .value_heads = 4, .key_dim = 16, .value_dim = 24};
    DeltaProblem whole(shape, awkward_batch(), 12, 31), parts(shape, awkward_batch(), 12, 31);
    ASSERT_TRUE(whole.run(*table).ok());
    Stream stream(2);
    std::vector<char> workspace;
    const GatedDeltaArgs args = parts.args(workspace, 2);
    const int64_t sequences = parts.batch.num_seqs.get(), cut = 5;

    ASSERT_TRUE(gated_delta_part({*table, stream}, some_of(args, cut, sequences - cut), "late").ok());
    EXPECT_TRUE(std::isnan(parts.row(0)[0])) << table->name;
    ASSERT_TRUE(gated_delta_part({*table, stream}, some_of(args, 0, cut), "early").ok());

    EXPECT_TRUE(same_bytes(parts.out.data(), whole.out.data(), static_cast<int64_t>(whole.out.size())))
        << table->name;
    EXPECT_TRUE(same_bytes(parts.state.data(), whole.state.data(), static_cast<int64_t>(whole.state.size())))
        << table->name;
  }
}

}  // namespace
}  // namespace lockstep
