#include <gtest/gtest.h>

#include <cmath>

#include "kernels/moe/moe_case.h"

namespace lockstep {
namespace {

using namespace moe_test;  // NOLINT

// A value computed in double and the bound on the error of computing it in f32.
struct Bounded {
  double value = 0;
  double error = 0;
};

Dot dot(const Weight& weight, int64_t expert, int64_t row, const float* x, MatmulInput input) {
  Dot sum;
  for (int64_t k = 0; k < weight.packed.k; ++k) sum.add(entering(x[k], input), weight.at(expert, row, k));
  return sum;
}

// silu has slope at most 1.1; it and the product cost 8 roundings at most (exp 2 ulp, division, sums).
// Rounding to bf16 costs 2^-8 more.
std::vector<Bounded> activation(const Call& call, int64_t t, int64_t expert) {
  const Experts& experts = call.experts;
  std::vector<Bounded> out;
  for (int64_t f = 0; f < experts.expert_width(); ++f) {
    const Dot gate = dot(experts.gate_up, expert, f, call.row(t), experts.format.input);
    const Dot up =
        dot(experts.gate_up, expert, experts.expert_width() + f, call.row(t), experts.format.input);
    const double silu = gate.sum / (1 + std::exp(-gate.sum));
    double error = 1.1 * gate.tolerance() * (std::abs(up.sum) + up.tolerance()) +
                   std::abs(silu) * up.tolerance() + std::abs(silu * up.sum) * 8 * kUnit;
    if (experts.format.input == MatmulInput::kBF16) error += (std::abs(silu * up.sum) + error) * 0x1p-8;
    out.push_back({silu * up.sum, error});
  }
  return out;
}

// The row's weighted sum over its choices, each a sum over F of terms that carry an error of their own.
std::vector<Bounded> expected_row(const Call& call, int64_t t) {
  const Experts& experts = call.experts;
  std::vector<Bounded> out(static_cast<size_t>(experts.width()));
  for (int64_t j = 0; j < call.choices.each; ++j) {
    const auto choice = static_cast<size_t>(t * call.choices.each + j);
    const int64_t expert = call.choices.ids[choice];
    if (expert < 0) continue;
    const std::vector<Bounded> acts = activation(call, t, expert);
    const double share = call.choices.weights[choice];
    for (int64_t e = 0; e < experts.width(); ++e) {
      Dot sum;
      double carried = 0;
      for (int64_t f = 0; f < experts.expert_width(); ++f) {
        const double w = experts.down.at(expert, e, f);
        sum.add(acts[static_cast<size_t>(f)].value, w);
        carried += acts[static_cast<size_t>(f)].error * std::abs(w);
      }
      const double error = (sum.tolerance() + carried) * (1 + 1e-3);  // 1e-3: products of two errors
      out[static_cast<size_t>(e)].value += share * sum.sum;
      out[static_cast<size_t>(e)].error +=
          std::abs(share) * (error + std::abs(sum.sum) * static_cast<double>(call.choices.each + 1) * kUnit);
    }
  }
  return out;
}

void expect_sums(const Call& call, const std::vector<float>& out) {
  const int64_t width = call.experts.width();
  for (int64_t t = 0; t < call.choices.rows(); ++t) {
    const std::vector<Bounded> expected = expected_row(call, t);
    for (int64_t e = 0; e < width; ++e) {
      const Bounded& bounded = expected[static_cast<size_t>(e)];
      ASSERT_NEAR(out[static_cast<size_t>(t * width + e)], bounded.value, bounded.error)
          << "row " << t << " column " << e;
    }
  }
  for (size_t i = static_cast<size_t>(call.choices.rows() * width); i < out.size(); ++i) {
    ASSERT_EQ(out[i], 0.0f) << "pad element " << i;
  }
}

TEST(MoeExperts, SumsTwoExpertsByHand) {
  // Every gate is 20 x: silu(20) = 20 within f32. Expert 0 has up x and down 1, expert 1 has up 2x and
  // down 3.
  for (const Isa isa : runnable()) {
    Stream stream(1);
    Experts experts({DType::kF32, MatmulInput::kF32}, 2, 1, 1);
    const Weight gate_up({20, 1, 20, 2}, experts.gate_up.packed), down({1, 3}, experts.down.packed);
    experts.gate_up.packed.data = gate_up.packed.data;
    experts.down.packed.data = down.packed.data;
    experts.gate_up.packed.expert_stride = gate_up.packed.expert_stride;
    experts.down.packed.expert_stride = down.packed.expert_stride;
    const Call call{
        .experts = experts,
        .x = {1, 1, 1},
        .choices = {.each = 2, .ids = {1, 0, 0, -1, -1, -1}, .weights = {0.25f, 0.5f, 2, 9, 9, 9}}};

    const std::vector<float> out = call.run(isa, stream);

    EXPECT_NEAR(out[0], 0.25 * 120 + 0.5 * 20, 1e-5) << name_of(isa);
    EXPECT_NEAR(out[1], 40, 1e-5) << name_of(isa);
    EXPECT_EQ(out[2], 0) << name_of(isa);
  }
}

TEST(MoeExperts, AgreesWithSumsInDoubleAtAwkwardSizes) {
  const int64_t widths[][2] = {{1, 1}, {5, 3}, {32, 32}, {33, 40}, {40, 33}, {64, 96}, {128, 192}};
  for (const Isa isa : runnable()) {
    Stream stream(2);
    for (const Format& format : kFormats) {
      for (const auto& [width, expert_width] : widths) {
        const Experts experts(format, 6, width, expert_width);
        for (const int64_t rows : {1, 2, 13, 67}) {
          SCOPED_TRACE(concat(describe(isa, format), " T ", rows, " E ", width, " F ", expert_width));
          const Call call = make_call(experts, rows, 3, rows % 4);
          expect_sums(call, call.run(isa, stream));
          if (HasFatalFailure()) return;
        }
      }
    }
  }
}

// More than a tile of choices each, and inputs and outputs that fill no box.
TEST(MoeExperts, AgreesWithSumsInDoubleWhereExpertsHaveManyChoices) {
  for (const Isa isa : runnable()) {
    if (isa == Isa::kReference) continue;
    Stream stream(2);
    for (const Format& format : kFormats) {
      for (const auto& [width, expert_width] : {std::pair<int64_t, int64_t>{96, 160}, {288, 32}}) {
        const Experts experts(format, 5, width, expert_width);
        for (const bool batch_invariant : {false, true}) {
          SCOPED_TRACE(concat(describe(isa, format), " E ", width, " F ", expert_width));
          Call call = make_call(experts, 203, 3, 5);
          call.batch_invariant = batch_invariant;
          expect_sums(call, call.run(isa, stream));
          if (HasFatalFailure()) return;
        }
      }
    }
  }
}

TEST(MoeExperts, GivesARowTheSameBitsInEveryBatchAndOnAnyNumberOfThreads) {
  constexpr int64_t kEach = 3;
  for (const Isa isa : runnable()) {
    Stream one(1), two(2), five(5);
    for (const Format& format : kFormats) {
      const bool row_major = format.layout == WeightLayout::kRowMajor;
      if (row_major && isa != Isa::kSm90) continue;  // the oracle's
      // Of so many rows an expert has few choices in some batches, and more than a tile in others.
      const int64_t width = row_major ? 128 : 40, rows = row_major ? 400 : 160;
      const Experts experts(format, 6, width, row_major ? 192 : 72);
      Call whole = make_call(experts, rows, kEach);
      whole.batch_invariant = true;
      const std::vector<float> expected = whole.run(isa, two);
      for (const int64_t batch :
           {int64_t{1}, int64_t{2}, int64_t{7}, int64_t{12}, int64_t{13}, int64_t{40}, rows - 1}) {
        for (Stream* stream : {&one, &five}) {
          for (int64_t begin = 0; begin < rows; begin += 11 * batch) {
            const int64_t end = std::min(begin + batch, rows);
            Call part = whole;
            part.x.assign(whole.x.begin() + begin * width, whole.x.begin() + end * width);
            part.choices.ids.assign(whole.choices.ids.begin() + begin * kEach,
                                    whole.choices.ids.begin() + end * kEach);
            part.choices.weights.assign(whole.choices.weights.begin() + begin * kEach,
                                        whole.choices.weights.begin() + end * kEach);
            part.pads = 2;
            const std::vector<float> out = part.run(isa, *stream);
            ASSERT_TRUE(same_bits(out.data(), expected.data() + begin * width, (end - begin) * width))
                << describe(isa, format) << ": rows " << begin << " to " << end << " of " << rows << ", "
                << stream->threads() << " threads";
          }
        }
      }
    }
  }
}

TEST(MoeExperts, SendsAllRowsToOneExpert) {
  for (const Isa isa : runnable()) {
    Stream stream(2);
    const Experts experts({DType::kBF16, MatmulInput::kBF16}, 5, 48, 64);
    Call call = make_call(experts, 31, 1, 2);
    for (int32_t& id : call.choices.ids) id = 4;
    expect_sums(call, call.run(isa, stream));
  }
}

TEST(MoeExperts, GivesZeroWhereNoExpertIsChosen) {
  for (const Isa isa : runnable()) {
    Stream stream(2);
    const Experts experts({DType::kBF16, MatmulInput::kBF16}, 5, 48, 64);
    Call call = make_call(experts, 4, 2);
    for (int32_t& id : call.choices.ids) id = -1;
    for (const float value : call.run(isa, stream)) EXPECT_EQ(value, 0) << name_of(isa);
  }
}

TEST(MoeExperts, MarksARowWhoseExpertDoesNotExistWithNaN) {
  for (const Isa isa : runnable()) {
    Stream stream(2);
    const Experts experts({DType::kBF16, MatmulInput::kBF16}, 5, 48, 64);
    Call call = make_call(experts, 3, 2);
    const std::vector<float> clean = call.run(isa, stream);
    call.choices.ids[2] = 5;
    call.choices.ids[5] = -2;

    const std::vector<float> out = call.run(isa, stream);

    EXPECT_TRUE(same_bits(out.data(), clean.data(), 48)) << name_of(isa);
    for (size_t i = 48; i < out.size(); ++i)
      EXPECT_TRUE(std::isnan(out[i])) << name_of(isa) << " element " << i;
  }
}

// A call that fits, for tests that spoil it.
struct Sound {
  Experts experts{{DType::kF32, MatmulInput::kF32}, 4, 8, 6};
  std::vector<float> x = std::vector<float>(24), out = std::vector<float>(24),
                     weights = std::vector<float>(6);
  std::vector<int32_t> ids = std::vector<int32_t>(6);
  std::vector<uint8_t> workspace = std::vector<uint8_t>(1 << 14);
  LiveRows live{3};
  MoeExpertsArgs args{.x = view(x, {3, 8}),
                      .gate_up = experts.gate_up.packed,
                      .down = experts.down.packed,
                      .expert_ids = view(ids, {3, 2}),
                      .expert_weights = view(weights, {3, 2}),
                      .out = view(out, {3, 8}),
                      .workspace = view(workspace, {1 << 14}),
                      .num_rows = &live};

  std::string refusal(const KernelTable& table = kernel_table(Isa::kReference)) {
    Stream stream(1);
    return moe_experts({table, stream}, args, "test").message();
  }
};

TEST(MoeExperts, NamesTheTensorThatDoesNotFit) {
  EXPECT_EQ(Sound().refusal(), "");
  Sound sound;
  sound.args.expert_weights = view(sound.weights, {2, 3});
  EXPECT_EQ(sound.refusal(), "moe_experts: expert_weights has shape [2, 3]; expected T = 3 as in x [3, 8]");
  Sound down;
  down.args.down.experts = 3;
  EXPECT_EQ(down.refusal(), "moe_experts: down has shape [3, 8, 6]; expected X = 4 as in gate_up [4, 12, 8]");
  Sound gate_up;
  gate_up.args.gate_up.n = 10;
  EXPECT_EQ(gate_up.refusal(), "moe_experts: gate_up has 10 outputs; expected 12, twice the inputs of down");
}

TEST(MoeExperts, NamesTypesLayoutsAndWorkspacesThatDoNotFit) {
  Sound types;
  types.args.down.dtype = DType::kBF16;
  EXPECT_EQ(types.refusal(), "moe_experts: gate_up is f32 and down bf16; expected both f32, f16 or bf16");
  Sound layouts;
  layouts.args.down.layout = WeightLayout::kRowMajor;
  EXPECT_EQ(layouts.refusal(), "moe_experts: gate_up and down have different layouts; expected one");
  Sound input;
  input.args.input = MatmulInput::kBF16;
  EXPECT_EQ(input.refusal(),
            "moe_experts: input is rounded to bf16 but the weights are f32; expected bf16 weights, or "
            "MatmulInput::kF32");
  Sound workspace;
  const int64_t needed = moe_workspace_bytes(3, 2, 4, 8, 6);
  workspace.args.workspace = view(workspace.workspace, {needed - 1});
  EXPECT_EQ(workspace.refusal(),
            concat("moe_experts: workspace has ", needed - 1, " bytes; expected at least ", needed));
  Sound ids;
  ids.args.expert_ids.dtype = DType::kF32;
  EXPECT_EQ(ids.refusal(), "moe_experts: expert_ids is f32; expected i32");
  Sound count;
  count.args.num_rows = nullptr;
  EXPECT_EQ(count.refusal(), "moe_experts: num_rows is null; expected the address of a count");
  Sound gathered;
  gathered.args.rows = MoeRows::kOfRanks;
  EXPECT_EQ(
      gathered.refusal(),
      "moe_experts: num_rows is given for rows of several ranks; expected none: ids of -1 say which rows "
      "are pads");
  Sound range;
  range.args.first_expert = 3;
  range.args.experts = 6;
  EXPECT_EQ(range.refusal(), "moe_experts: holds experts 3 to 7; expected experts within 0 to 6");
}

TEST(MoeExperts, NamesATableWithoutIt) {
  EXPECT_EQ(
      Sound().refusal({.name = "empty"}),
      "moe_gate_up: the kernel table empty has no such kernel; use the table of another instruction set");
}

}  // namespace
}  // namespace lockstep
