#include "kernels/lightning/lightning.h"

#include <gtest/gtest.h>

#include "kernels/lightning/lightning_problem.h"

namespace lockstep {
namespace {

using namespace testing;  // NOLINT

// Compares every live row's output and each written state of sequence s with the recurrence; `initial` as
// the states were before the run.
void expect_truth(const LightningProblem& ran, const std::vector<float>& initial, int64_t s,
                  std::string_view table) {
  const auto [heads, key_heads, dk, dv] = ran.shape;
  const auto at = static_cast<size_t>(s);
  const int64_t begin = ran.batch.query_start_loc[at];
  const int64_t rows = ran.batch.query_start_loc[at + 1] - begin;
  const float* from =
      ran.batch.has_state[at] != 0 ? initial.data() + ran.batch.read_slots[at] * ran.slot_size() : nullptr;
  for (int64_t h = 0; h < heads && rows > 0; ++h) {
    const LightningTruth truth = lightning_truth(ran, s, h, from);
    for (int64_t i = 0; i < rows * dv; ++i) {
      const float actual = ran.row(begin + i / dv)[h * dv + i % dv];
      ASSERT_NEAR(actual, truth.out[static_cast<size_t>(i)], out_tolerance(truth, ran.shape, rows))
          << table << " sequence " << s << " of " << rows << " rows, head " << h << ", row " << i / dv;
    }
    for (int64_t t = 0; t < rows; ++t) {
      const int64_t slot = ran.batch.write_slots[static_cast<size_t>(begin + t)];
      if (slot < 0) continue;
      for (int64_t i = 0; i < dk * dv; ++i) {
        ASSERT_NEAR(ran.slot(slot)[h * dk * dv + i],
                    truth.states[static_cast<size_t>(t)][static_cast<size_t>(i)],
                    state_tolerance(truth, rows))
            << table << " sequence " << s << " head " << h << ", state after row " << t;
      }
    }
  }
}

TEST(Lightning, DecaysAndAddsByHand) {
  // (1, 2) decays to (0.5, 1); k v = (0.5, 0.25) * 2 goes in: (1.5, 1.5). q = (3, 1), halved.
  for (const KernelTable* table : runnable_tables()) {
    LightningProblem problem({1, 1, 2, 1}, SequenceBatch({{.rows = 1, .read_slot = 1, .write_slots = {1}}}),
                             2, 1);
    problem.qkv = {3, 1, 0.5f, 0.25f, 2};
    problem.decay = {0.5f};
    problem.scale = 0.5f;
    problem.state = {7, 7, 1, 2};

    ASSERT_TRUE(problem.run(*table).ok());

    EXPECT_EQ(problem.state, (std::vector<float>{7, 7, 1.5f, 1.5f})) << table->name;
    EXPECT_EQ(problem.out, std::vector<float>{3}) << table->name;
  }
}

TEST(Lightning, EqualsTheRecurrenceForAwkwardLengthsAndSizes) {
  const std::vector<LightningShape> shapes = {{1, 1, 16, 16}, {4, 2, 16, 32}, {3, 1, 64, 64},
                                              {4, 4, 24, 40}, {2, 1, 7, 5},   {2, 2, 128, 128},
                                              {2, 2, 9, 130}};
  for (const LightningShape& shape : shapes) {
    for (const KernelTable* table : runnable_tables()) {
      LightningProblem problem(shape, awkward_batch(), 13, 20);
      // Sequences without a state begin from zeros whatever their slots hold.
      for (const int64_t slot : {4, 9})
        std::fill_n(problem.state.begin() + slot * problem.slot_size(), problem.slot_size(), kNan);
      const std::vector<float> initial = problem.state;
      ASSERT_TRUE(problem.run(*table, 2).ok());
      for (int64_t s = 0; s < problem.batch.num_seqs.get(); ++s) {
        expect_truth(problem, initial, s, table->name);
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST(Lightning, WritesZerosToPadRowsAndNothingToOtherSlots) {
  for (const KernelTable* table : runnable_tables()) {
    LightningProblem problem({4, 2, 16, 24}, awkward_batch(), 13, 21);
    std::fill_n(problem.state.begin(), problem.slot_size(), kNan);  // the pad state
    const std::vector<float> initial = problem.state;
    ASSERT_TRUE(problem.run(*table, 2).ok());
    const int64_t live = problem.batch.num_rows.get(), pads = problem.batch.rows() - live;
    const std::vector<float> zeros(static_cast<size_t>(pads * 4 * 24), 0.0f);
    EXPECT_TRUE(same_bits(problem.row(live), zeros.data(), pads * 4 * 24)) << table->name;
    for (int64_t slot = 0; slot < 13; ++slot) {
      const bool written =
          slot == 1 || slot == 2 || slot == 4 || slot == 6 || slot == 7 || slot == 9 || slot == 10;
      EXPECT_NE(
          same_bits(problem.slot(slot), initial.data() + slot * problem.slot_size(), problem.slot_size()),
          written)
          << table->name << " slot " << slot;
    }
  }
}

TEST(Lightning, KeepsTheStateAfterEveryRowThatNamesASlot) {
  for (const KernelTable* table : runnable_tables()) {
    // Rows 0 and 1 write nowhere, rows 2, 3 and 4 to slots 5, 2 and 3; slot 2 is also the read slot.
    LightningProblem problem({2, 1, 32, 24},
                             SequenceBatch({{.rows = 5, .read_slot = 2, .write_slots = {5, 2, 3}},
                                            {.rows = 2, .read_slot = 4, .write_slots = {4, 6}}}),
                             7, 22);
    const std::vector<float> initial = problem.state;
    ASSERT_TRUE(problem.run(*table).ok());
    for (int64_t s = 0; s < 2; ++s) expect_truth(problem, initial, s, table->name);
    EXPECT_TRUE(same_bits(problem.slot(1), initial.data() + problem.slot_size(), problem.slot_size()));
  }
}

// Rows [begin, begin + count) of a sequence of `whole`, as a step of its own that goes on from `state`.
LightningProblem piece_of(const LightningProblem& whole, int32_t begin, int32_t count,
                          const std::vector<float>& state) {
  LightningProblem piece(
      whole.shape, SequenceBatch({{.rows = count, .read_slot = 1, .write_slots = {1}}}, begin % 3), 2, 23);
  std::copy_n(whole.qkv.begin() + begin * static_cast<int64_t>(whole.width()),
              static_cast<size_t>(count) * whole.width(), piece.qkv.begin());
  piece.state = state;
  return piece;
}

// 150 rows at once against the same rows in steps of any size, single rows among them.
TEST(Lightning, GivesTheSameBitsWhereverRowsAreCutIntoSteps) {
  const SequenceBatch sequence({{.rows = 150, .read_slot = 1, .write_slots = {1}}});
  for (const LightningShape& shape : {LightningShape{2, 1, 32, 24}, LightningShape{1, 1, 13, 70}}) {
    for (const KernelTable* table : runnable_tables()) {
      LightningProblem whole(shape, sequence, 2, 23);
      const std::vector<float> initial = whole.state;
      ASSERT_TRUE(whole.run(*table).ok());
      for (const int32_t step : {1, 2, 3, 4, 63, 64, 65, 127, 128, 149}) {
        std::vector<float> state = initial;
        for (int32_t begin = 0; begin < 150; begin += step) {
          LightningProblem piece = piece_of(whole, begin, std::min(step, 150 - begin), state);
          ASSERT_TRUE(piece.run(*table, 2).ok());
          ASSERT_TRUE(same_bits(piece.row(0), whole.row(begin),
                                std::min(step, 150 - begin) * shape.heads * shape.value_dim))
              << table->name << " steps of " << step << ", at row " << begin;
          state = piece.state;
        }
        EXPECT_TRUE(same_bits(state.data() + whole.slot_size(), whole.slot(1), whole.slot_size()))
            << table->name << " steps of " << step;
      }
    }
  }
}

TEST(Lightning, GivesTheSameBitsAloneAndInABatchOnAnyNumberOfThreads) {
  const LightningShape shape{4, 2, 32, 40};
  for (const KernelTable* table : runnable_tables()) {
    LightningProblem batch(shape, awkward_batch(), 13, 24);
    const LightningProblem fresh = batch;
    ASSERT_TRUE(batch.run(*table).ok());
    for (const int threads : {2, 5}) {
      LightningProblem again = fresh;
      ASSERT_TRUE(again.run(*table, threads).ok());
      EXPECT_TRUE(same_bits(batch.out, again.out)) << table->name;
      EXPECT_TRUE(same_bits(batch.state, again.state)) << table->name;
    }
    // Sequence 5 of the batch, 150 rows after 133 others, by itself.
    LightningProblem alone(shape, SequenceBatch({{.rows = 150, .read_slot = 7, .write_slots = {7}}}, 3), 13,
                           24);
    const int64_t begin = fresh.batch.query_start_loc[5];
    alone.state = fresh.state;
    std::copy_n(fresh.qkv.begin() + begin * static_cast<int64_t>(fresh.width()), 150 * fresh.width(),
                alone.qkv.begin());
    ASSERT_TRUE(alone.run(*table).ok());
    EXPECT_TRUE(same_bits(alone.row(0), batch.row(begin), 150 * shape.heads * shape.value_dim))
        << table->name;
    EXPECT_TRUE(same_bits(alone.slot(7), batch.slot(7), batch.slot_size())) << table->name;
  }
}

// Every head stands exactly where one thread's share ends and the next begins.
TEST(Lightning, UpdatesEachStateOnceWhereSharesMeet) {
  std::vector<SequenceSpec> sequences;
  for (int32_t s = 1; s <= 8; ++s) sequences.push_back({.rows = 1, .read_slot = s, .write_slots = {s}});
  for (const KernelTable* table : runnable_tables()) {
    for (const int threads : {1, 2, 4, 8}) {
      LightningProblem problem({4, 4, 16, 16}, SequenceBatch(sequences), 9, 31);
      const std::vector<float> initial = problem.state;
      ASSERT_TRUE(problem.run(*table, threads).ok());
      for (int64_t s = 0; s < 8; ++s) expect_truth(problem, initial, s, table->name);
    }
  }
}

TEST(Lightning, PassesNanOnWithinItsOwnSequenceAndHead) {
  for (const KernelTable* table : runnable_tables()) {
    LightningProblem problem({2, 2, 16, 16},
                             SequenceBatch({{.rows = 70, .read_slot = 1, .write_slots = {1}},
                                            {.rows = 70, .read_slot = 2, .write_slots = {2}}}),
                             3, 26);
    problem.qkv[10 * problem.width() + 2 * 2 * 16 + 16 + 3] = kNan;  // row 10, value head 1, column 3
    ASSERT_TRUE(problem.run(*table).ok());
    for (int64_t t = 0; t < 140; ++t) {
      for (int64_t i = 0; i < 32; ++i) {
        const bool reached = t >= 10 && t < 70 && i == 19;
        ASSERT_EQ(std::isnan(problem.row(t)[i]), reached) << table->name << " row " << t << " column " << i;
      }
    }
  }
}

TEST(Lightning, RunsAStepWithoutLiveRows) {
  for (const KernelTable* table : runnable_tables()) {
    LightningProblem problem({1, 1, 16, 16}, SequenceBatch({}, 3), 2, 27);
    const std::vector<float> initial = problem.state;
    ASSERT_TRUE(problem.run(*table, 2).ok());
    EXPECT_EQ(problem.out, std::vector<float>(48, 0.0f));
    EXPECT_EQ(problem.state, initial);
    LightningProblem nothing({1, 1, 16, 16}, SequenceBatch({}), 2, 28);
    EXPECT_TRUE(nothing.run(*table).ok());
  }
}

// The refusal of a problem whose arguments `change` has spoilt.
template <typename Change>
std::string refusal(Change&& change) {
  LightningProblem problem({4, 2, 16, 24}, SequenceBatch({{.rows = 5}}, 2), 3, 29);
  Stream stream(2);
  std::vector<char> workspace;
  LightningArgs args = problem.args(workspace, 2);
  change(args);
  const Status status = lightning({kernel_table(Isa::kReference), stream}, args, "test");
  EXPECT_EQ(status.code(), Code::kInvalidArgument);
  return status.message();
}

TEST(Lightning, NamesWhatDoesNotFit) {
  EXPECT_EQ(refusal([](LightningArgs& args) { args.k.dtype = DType::kBF16; }),
            "lightning: k is bf16; expected f32");
  EXPECT_EQ(refusal([](LightningArgs& args) { args.decay.shape.dims[0] = 3; }),
            "lightning: decay has shape [3]; expected H = 4 as in q [7, 4, 16]");
  EXPECT_EQ(refusal([](LightningArgs& args) { args.k.shape.dims[1] = args.v.shape.dims[1] = 3; }),
            "lightning: q [7, 4, 16] has 4 heads; expected a multiple of the 3 heads of k [7, 3, 16]");
  EXPECT_EQ(refusal([](LightningArgs& args) { args.state.strides[1] = 400; }),
            "lightning: state [3, 4, 16, 24] has gaps inside a slot or slots that overlap; expected dense "
            "slots, 1536 elements or more apart");
  EXPECT_EQ(refusal([](LightningArgs& args) { args.state_write_slots.shape.dims[0] = 6; }),
            "lightning: state_write_slots has shape [6]; expected [7], one per row");
  EXPECT_EQ(
      refusal([](LightningArgs& args) { args.workspace.shape.dims[0] = 64; }),
      concat("lightning: workspace has 64 bytes; expected at least ", lightning_workspace_bytes(2, 16, 24)));
  EXPECT_EQ(refusal([](LightningArgs& args) { args.num_seqs = nullptr; }),
            "lightning: num_seqs is null; expected the address of a count");
}

TEST(Lightning, NamesATableWithoutAKernel) {
  LightningProblem problem({1, 1, 16, 16}, SequenceBatch({SequenceSpec{}}), 2, 30);
  const KernelTable empty{.name = "empty"};
  const Status status = problem.run(empty);
  EXPECT_EQ(status.code(), Code::kUnimplemented);
  EXPECT_EQ(status.message(),
            "lightning: the kernel table empty has no such kernel; use the table of another instruction set");
}

// The first `count` sequences from `first` on, as whoever runs a step in parts gives them.
LightningArgs some_of(LightningArgs args, int64_t first, int64_t count) {
  args.query_start_loc = args.query_start_loc.rows(first, count + 1);
  args.state_read_slot = args.state_read_slot.rows(first, count);
  args.has_initial_state = args.has_initial_state.rows(first, count);
  return args;
}

TEST(LightningPart, LeavesTheRowsOfOtherSequencesAsTheyAre) {
  for (const KernelTable* table : runnable_tables()) {
    LightningProblem whole({4, 2, 16, 24}, awkward_batch(), 12, 31), parts = whole;
    ASSERT_TRUE(whole.run(*table).ok());
    Stream stream(2);
    std::vector<char> workspace;
    const LightningArgs args = parts.args(workspace, 2);
    const int64_t sequences = parts.batch.num_seqs.get(), cut = 5;

    ASSERT_TRUE(lightning_part({*table, stream}, some_of(args, cut, sequences - cut), "late").ok());
    EXPECT_TRUE(std::isnan(parts.row(0)[0])) << table->name;
    ASSERT_TRUE(lightning_part({*table, stream}, some_of(args, 0, cut), "early").ok());

    EXPECT_TRUE(same_bits(parts.out, whole.out)) << table->name;
    EXPECT_TRUE(same_bits(parts.state, whole.state)) << table->name;
  }
}

}  // namespace
}  // namespace lockstep
