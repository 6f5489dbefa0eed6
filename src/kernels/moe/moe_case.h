// Calls of moe_experts that its tests share.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "kernels/linear/matmul_case.h"
#include "kernels/moe/moe.h"

namespace lockstep::moe_test {

using namespace matmul_test;  // NOLINT

struct Format {
  DType dtype;
  MatmulInput input;
  WeightLayout layout = WeightLayout::kPanel32;
};

inline constexpr Format kFormats[] = {{DType::kF32, MatmulInput::kF32},
                                      {DType::kF16, MatmulInput::kF32},
                                      {DType::kBF16, MatmulInput::kF32},
                                      {DType::kBF16, MatmulInput::kBF16},
                                      {DType::kBF16, MatmulInput::kBF16, WeightLayout::kRowMajor}};

inline std::string describe(Isa isa, const Format& format) {
  return concat(name_of(isa), " ", format.dtype, format.input == MatmulInput::kBF16 ? " by bf16" : " by f32",
                " layout ", static_cast<int>(format.layout));
}

// Experts of width E -> F -> E.
struct Experts {
  Format format;
  Weight gate_up, down;

  Experts(const Format& how, int64_t experts, int64_t width, int64_t expert_width)
      : format(how),
        gate_up(random_values(experts * 2 * expert_width * width, 61), {.dtype = how.dtype,
                                                                        .layout = how.layout,
                                                                        .experts = experts,
                                                                        .n = 2 * expert_width,
                                                                        .k = width}),
        down(random_values(experts * width * expert_width, 67),
             {.dtype = how.dtype, .layout = how.layout, .experts = experts, .n = width, .k = expert_width}) {}
  int64_t count() const { return gate_up.packed.experts; }
  int64_t width() const { return gate_up.packed.k; }
  int64_t expert_width() const { return down.packed.k; }
};

struct Choices {
  int64_t each = 1;                 // per row
  std::vector<int32_t> ids = {};    // [T][each]
  std::vector<float> weights = {};  // [T][each]
  int64_t rows() const { return static_cast<int64_t>(ids.size()) / each; }
};

// Distinct experts per row, spread unevenly: low experts are chosen more often, some rows lack choices.
inline Choices random_choices(int64_t rows, int64_t each, int64_t experts, uint32_t seed) {
  std::mt19937 random(seed);
  Choices choices{.each = each};
  for (int64_t t = 0; t < rows; ++t) {
    std::vector<int32_t> row;
    while (static_cast<int64_t>(row.size()) < each) {
      const auto id = static_cast<int32_t>(std::min(random() % experts, random() % experts));
      if (std::find(row.begin(), row.end(), id) == row.end()) row.push_back(id);
    }
    if (t % 7 == 3) row.back() = -1;
    choices.ids.insert(choices.ids.end(), row.begin(), row.end());
  }
  choices.weights = random_values(rows * each, seed + 1);
  return choices;
}

struct Call {
  const Experts& experts;
  std::vector<float> x;  // [live, E]
  Choices choices;
  int64_t pads = 0;
  int32_t first = 0;  // the first expert that is here
  int64_t held = 0;   // 0: all are
  MoeRows order = MoeRows::kLiveFirst;
  bool batch_invariant = false;

  // `weight` as a rank has it that holds these experts.
  PackedWeight held_of(PackedWeight weight) const {
    weight.data = static_cast<char*>(weight.data) + first * weight.expert_stride * size_of(weight.dtype);
    if (held > 0) weight.experts = held;
    return weight;
  }

  // out, [T, E]. Pad rows come with NaN inputs, an expert of their own and a NaN weight.
  std::vector<float> run(Isa isa, Stream& stream) const {
    const int64_t live = choices.rows(), rows = live + pads, width = experts.width(), stride = width + 3;
    std::vector<float> inputs = poisoned(x, width, rows, stride),
                       out(static_cast<size_t>(rows * stride), kNaN);
    std::vector<int32_t> ids = choices.ids;
    std::vector<float> weights = choices.weights;
    ids.resize(static_cast<size_t>(rows * choices.each), 0);
    weights.resize(static_cast<size_t>(rows * choices.each), kNaN);
    std::vector<uint8_t> workspace(static_cast<size_t>(moe_workspace_bytes(
                                       rows, choices.each, experts.count(), width, experts.expert_width())),
                                   0xFF);
    const LiveRows num_rows(live);
    const MoeExpertsArgs args{.x = strided(inputs, rows, width, stride),
                              .gate_up = held_of(experts.gate_up.packed),
                              .down = held_of(experts.down.packed),
                              .expert_ids = view(ids, {rows, choices.each}),
                              .expert_weights = view(weights, {rows, choices.each}),
                              .out = strided(out, rows, width, stride),
                              .workspace = view(workspace, {static_cast<int64_t>(workspace.size())}),
                              .num_rows = order == MoeRows::kLiveFirst ? &num_rows : nullptr,
                              .first_expert = first,
                              .experts = static_cast<int32_t>(experts.count()),
                              .input = experts.format.input,
                              .rows = order};
    const Status status = moe_experts({table_of(isa, batch_invariant), stream}, args, "test");
    EXPECT_TRUE(status.ok()) << status.message();
    std::vector<float> dense;
    for (int64_t t = 0; t < rows; ++t) {
      dense.insert(dense.end(), out.begin() + t * stride, out.begin() + t * stride + width);
    }
    return dense;
  }
  const float* row(int64_t t) const { return x.data() + t * experts.width(); }
};

inline Call make_call(const Experts& experts, int64_t rows, int64_t each, int64_t pads = 0) {
  return {.experts = experts,
          .x = random_values(rows * experts.width(), 71),
          .choices = random_choices(rows, each, experts.count(), 73),
          .pads = pads};
}

}  // namespace lockstep::moe_test
