#include "kernels/causal_conv/causal_conv.h"

#include <gtest/gtest.h>

#include <cmath>

#include "kernels/common/sequence_batch.h"

namespace lockstep {
namespace {

using namespace testing;  // NOLINT

// Random inputs in the first columns of wider rows; pad rows NaN, out NaN.
struct ConvProblem {
  int64_t channels, window, slots;
  SequenceBatch batch;
  std::vector<float> x, weight, state, out;

  ConvProblem(int64_t of_channels, int64_t of_window, SequenceBatch sequences, int64_t state_slots,
              uint32_t seed)
      : channels(of_channels), window(of_window), slots(state_slots), batch(std::move(sequences)) {
    std::mt19937 random(seed);
    x = random_floats(static_cast<size_t>(batch.rows() * stride()), random, 3.0f);
    weight = random_floats(static_cast<size_t>(channels * window), random);
    state = random_floats(static_cast<size_t>(slots * slot_size()), random, 3.0f);
    out.assign(static_cast<size_t>(batch.rows() * channels), kNan);
    std::fill(x.begin() + batch.num_rows.get() * stride(), x.end(), kNan);
  }

  int64_t stride() const { return channels + 5; }
  int64_t slot_size() const { return channels * (window - 1); }

  CausalConvArgs args() {
    TensorView rows = dense_view(x.data(), DType::kF32, {batch.rows(), channels});
    rows.strides[0] = stride();
    return {.x = rows,
            .weight = view(weight, {channels, window}),
            .state = view(state, {slots, channels, window - 1}),
            .query_start_loc = view(batch.query_start_loc, {batch.seqs() + 1}),
            .state_read_slot = view(batch.read_slots, {batch.seqs()}),
            .state_write_slots = view(batch.write_slots, {batch.rows()}),
            .has_initial_state = view(batch.has_state, {batch.seqs()}),
            .out = view(out, {batch.rows(), channels}),
            .num_rows = &batch.num_rows,
            .num_seqs = &batch.num_seqs};
  }

  Status run(const KernelTable& table, int threads = 1) {
    Stream stream(threads);
    return causal_conv({table, stream}, args(), "test");
  }

  // The raw inputs of channel c that sequence s has seen up to row t, oldest first; `before` is the state as
  // it was before the run.
  std::vector<float> history(int64_t s, int64_t t, int64_t c, const std::vector<float>& before) const {
    std::vector<float> seen;
    const auto at = static_cast<size_t>(s);
    for (int64_t j = 0; j < window - 1; ++j) {
      const int64_t from = batch.read_slots[at] * slot_size() + c * (window - 1) + j;
      seen.push_back(batch.has_state[at] != 0 ? before[static_cast<size_t>(from)] : 0.0f);
    }
    for (int64_t r = batch.query_start_loc[at]; r <= t; ++r) {
      seen.push_back(x[static_cast<size_t>(r * stride() + c)]);
    }
    return seen;
  }
};

// Shorter than the window, empty, without a state, reading and writing different slots, writing nowhere, and
// writing after every row with the read slot among the written.
SequenceBatch awkward_batch() {
  return SequenceBatch({{.rows = 1, .read_slot = 1, .write_slots = {1}},
                        {.rows = 2, .read_slot = 2, .write_slots = {2}},
                        {.rows = 0, .read_slot = 3},
                        {.rows = 1, .read_slot = 4, .has_state = false, .write_slots = {4}},
                        {.rows = 31, .read_slot = 5, .write_slots = {6}},
                        {.rows = 3, .read_slot = 7, .write_slots = {7, 8, 9}},
                        {.rows = 4, .read_slot = 10, .has_state = false}},
                       5);
}

// Every live row and every written state of a problem that ran, against the definition.
void expect_truth(const ConvProblem& ran, const std::vector<float>& before, std::string_view table) {
  for (int64_t s = 0; s < ran.batch.num_seqs.get(); ++s) {
    const auto at = static_cast<size_t>(s);
    for (int64_t t = ran.batch.query_start_loc[at]; t < ran.batch.query_start_loc[at + 1]; ++t) {
      const int64_t slot = ran.batch.write_slots[static_cast<size_t>(t)];
      for (int64_t c = 0; c < ran.channels; ++c) {
        const std::vector<float> seen = ran.history(s, t, c, before);
        double sum = 0, size = 0;
        for (int64_t j = 0; j < ran.window; ++j) {
          const double term = double{ran.weight[static_cast<size_t>(c * ran.window + j)]} *
                              double{seen[seen.size() - static_cast<size_t>(ran.window - j)]};
          sum += term;
          size += std::abs(term);
        }
        // W products and sums round once each, SiLU (slope at most 1.1) a few times more.
        const double tolerance = 0x1p-24 * static_cast<double>(ran.window + 8) * size * 1.1;
        ASSERT_NEAR(ran.out[static_cast<size_t>(t * ran.channels + c)], sum / (1 + std::exp(-sum)), tolerance)
            << table << " sequence " << s << " row " << t << " channel " << c;
        for (int64_t j = 0; slot >= 0 && j < ran.window - 1; ++j) {
          ASSERT_EQ(ran.state[static_cast<size_t>(slot * ran.slot_size() + c * (ran.window - 1) + j)],
                    seen[seen.size() - static_cast<size_t>(ran.window - 1 - j)])
              << table << " state after row " << t << " channel " << c << " place " << j;
        }
      }
    }
  }
}

TEST(CausalConv, WeighsTheCurrentRowLast) {
  for (const KernelTable* table : runnable_tables()) {
    ConvProblem problem(1, 3, SequenceBatch({{.rows = 2, .read_slot = 1, .write_slots = {1}}}), 2, 1);
    problem.state = {9, 9, 10, 20};
    problem.weight = {1, 2, 3};
    problem.x[0] = 30;
    problem.x[static_cast<size_t>(problem.stride())] = 40;

    ASSERT_TRUE(problem.run(*table).ok());

    // 10 + 2 * 20 + 3 * 30 and 20 + 2 * 30 + 3 * 40: far from zero SiLU is the identity.
    EXPECT_EQ(problem.out, (std::vector<float>{140, 200})) << table->name;
    EXPECT_EQ(problem.state, (std::vector<float>{9, 9, 30, 40})) << table->name;
  }
}

TEST(CausalConv, EqualsTheDefinitionForAwkwardSequences) {
  for (const int64_t channels : {1, 7, 16, 37, 300, 529}) {
    for (const int64_t window : {1, 2, 4, 16}) {
      for (const KernelTable* table : runnable_tables()) {
        ConvProblem problem(channels, window, awkward_batch(), 12, 2);
        // Whoever has no state must not look at the slot.
        for (const int64_t slot : {4, 10}) {
          std::fill_n(problem.state.begin() + slot * problem.slot_size(), problem.slot_size(), kNan);
        }
        const std::vector<float> before = problem.state;
        ASSERT_TRUE(problem.run(*table).ok());
        expect_truth(problem, before, table->name);
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST(CausalConv, WritesZerosToPadRowsAndNothingToOtherSlots) {
  for (const KernelTable* table : runnable_tables()) {
    ConvProblem problem(37, 4, awkward_batch(), 12, 3);
    const std::vector<float> before = problem.state;
    ASSERT_TRUE(problem.run(*table, 2).ok());
    for (int64_t t = problem.batch.num_rows.get(); t < problem.batch.rows(); ++t) {
      for (int64_t c = 0; c < 37; ++c) {
        EXPECT_EQ(problem.out[static_cast<size_t>(t * 37 + c)], 0.0f) << table->name << " row " << t;
      }
    }
    for (const int64_t slot : {0, 3, 5, 10, 11}) {
      for (int64_t i = slot * problem.slot_size(); i < (slot + 1) * problem.slot_size(); ++i) {
        EXPECT_EQ(problem.state[static_cast<size_t>(i)], before[static_cast<size_t>(i)])
            << table->name << " slot " << slot;
      }
    }
  }
}

// Bits, not tolerances: the order of a row's sum is the order of its window, wherever its inputs come from.
TEST(CausalConv, ContinuesBitByBitFromAnySplit) {
  for (const KernelTable* table : runnable_tables()) {
    for (const int32_t split : {1, 2, 3, 4, 63, 64}) {
      ConvProblem whole(37, 4, SequenceBatch({{.rows = 65, .read_slot = 1, .write_slots = {1}}}), 2, 4);
      ConvProblem head(37, 4, SequenceBatch({{.rows = split, .read_slot = 1, .write_slots = {1}}}), 2, 4);
      ConvProblem tail(37, 4, SequenceBatch({{.rows = 65 - split, .read_slot = 1, .write_slots = {1}}}), 2,
                       4);
      const int64_t cut = split * whole.stride();
      head.x.assign(whole.x.begin(), whole.x.begin() + cut);
      tail.x.assign(whole.x.begin() + cut, whole.x.end());
      head.weight = tail.weight = whole.weight;
      head.state = whole.state;
      ASSERT_TRUE(whole.run(*table).ok());
      ASSERT_TRUE(head.run(*table).ok());
      tail.state = head.state;
      ASSERT_TRUE(tail.run(*table).ok());
      std::vector<float> parts = head.out;
      parts.insert(parts.end(), tail.out.begin(), tail.out.end());
      EXPECT_EQ(whole.out, parts) << table->name << " split " << split;
      EXPECT_EQ(whole.state, tail.state) << table->name << " split " << split;
    }
  }
}

TEST(CausalConv, GivesTheSameBitsOnAnyNumberOfThreads) {
  for (const KernelTable* table : runnable_tables()) {
    ConvProblem one(529, 4, awkward_batch(), 12, 5);
    ASSERT_TRUE(one.run(*table).ok());
    for (const int threads : {2, 5}) {
      ConvProblem many(529, 4, awkward_batch(), 12, 5);
      ASSERT_TRUE(many.run(*table, threads).ok());
      EXPECT_EQ(one.out, many.out) << table->name;
      EXPECT_EQ(one.state, many.state) << table->name;
    }
  }
}

TEST(CausalConv, RunsAStepWithoutLiveRows) {
  for (const KernelTable* table : runnable_tables()) {
    ConvProblem problem(16, 4, SequenceBatch({}, 3), 2, 6);
    const std::vector<float> before = problem.state;
    ASSERT_TRUE(problem.run(*table, 2).ok());
    EXPECT_EQ(problem.out, std::vector<float>(48, 0.0f));
    EXPECT_EQ(problem.state, before);
    ConvProblem nothing(16, 4, SequenceBatch({}), 2, 7);
    EXPECT_TRUE(nothing.run(*table).ok());
  }
}

template <typename Change>
std::string refusal(Change&& change) {
  ConvProblem problem(8, 4, SequenceBatch({{.rows = 3}}, 2), 3, 8);
  Stream stream(1);
  CausalConvArgs args = problem.args();
  change(args);
  const Status status = causal_conv({kernel_table(Isa::kReference), stream}, args, "test");
  EXPECT_EQ(status.code(), Code::kInvalidArgument);
  return status.message();
}

TEST(CausalConv, NamesWhatDoesNotFit) {
  EXPECT_EQ(refusal([](CausalConvArgs& args) { args.x.dtype = DType::kF16; }),
            "causal_conv: x is f16; expected f32");
  EXPECT_EQ(refusal([](CausalConvArgs& args) { args.weight.shape.dims[0] = 7; }),
            "causal_conv: weight has shape [7, 4]; expected C = 8 as in x [5, 8]");
  EXPECT_EQ(refusal([](CausalConvArgs& args) { args.weight.shape.dims[1] = 17; }),
            "causal_conv: weight [8, 17] has a window of 17 rows; expected 1 to 16");
  EXPECT_EQ(
      refusal([](CausalConvArgs& args) { args.state.shape.dims[2] = 4; }),
      "causal_conv: state [3, 8, 4] holds 4 rows; expected 3, one less than the window of weight [8, 4]");
  EXPECT_EQ(refusal([](CausalConvArgs& args) { args.out.data = args.x.data; }),
            "causal_conv: out is x; expected memory of its own");
  EXPECT_EQ(refusal([](CausalConvArgs& args) { args.state_read_slot.dtype = DType::kI64; }),
            "causal_conv: state_read_slot is i64; expected i32");
  EXPECT_EQ(refusal([](CausalConvArgs& args) { args.has_initial_state.shape.dims[0] = 1; }),
            "causal_conv: has_initial_state has shape [1]; expected S = 2 as in state_read_slot [2]");
  EXPECT_EQ(refusal([](CausalConvArgs& args) { args.num_rows = nullptr; }),
            "causal_conv: num_rows is null; expected the address of a count");
}

TEST(CausalConv, NamesATableWithoutAKernel) {
  ConvProblem problem(8, 4, SequenceBatch({SequenceSpec{}}), 2, 9);
  KernelTable half{.name = "half"};
  half.causal_conv = kernel_table(Isa::kReference).causal_conv;
  const Status status = problem.run(half);
  EXPECT_EQ(status.code(), Code::kUnimplemented);
  EXPECT_EQ(
      status.message(),
      "causal_conv_state: the kernel table half has no such kernel; use the table of another instruction "
      "set");
}

// The first `count` sequences from `first` on, as whoever runs a step in parts gives them.
CausalConvArgs some_of(CausalConvArgs args, int64_t first, int64_t count) {
  args.query_start_loc = args.query_start_loc.rows(first, count + 1);
  args.state_read_slot = args.state_read_slot.rows(first, count);
  args.has_initial_state = args.has_initial_state.rows(first, count);
  return args;
}

TEST(CausalConvPart, LeavesTheRowsOfOtherSequencesAsTheyAre) {
  for (const KernelTable* table : runnable_tables()) {
    ConvProblem whole(37, 4, awkward_batch(), 11, 5), parts(37, 4, awkward_batch(), 11, 5);
    ASSERT_TRUE(whole.run(*table).ok());
    Stream stream(2);
    const int64_t sequences = parts.batch.num_seqs.get(), cut = 4;

    ASSERT_TRUE(causal_conv_part({*table, stream}, some_of(parts.args(), cut, sequences - cut), "late").ok());
    EXPECT_TRUE(std::isnan(parts.out[0])) << table->name;
    ASSERT_TRUE(causal_conv_part({*table, stream}, some_of(parts.args(), 0, cut), "early").ok());

    EXPECT_EQ(parts.out, whole.out) << table->name;
    EXPECT_EQ(parts.state, whole.state) << table->name;
  }
}

}  // namespace
}  // namespace lockstep
