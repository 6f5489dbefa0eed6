// Test support for gated_delta: a random problem, how it is run, and the recurrence in f64 beside it.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/common/sequence_batch.h"
#include "kernels/gated_delta/gated_delta.h"

namespace lockstep::testing {

struct DeltaShape {
  int64_t key_heads = 1;
  int64_t value_heads = 1;
  int64_t key_dim = 16;
  int64_t value_dim = 16;
};

// q, k and v lie side by side in the rows of one buffer, b and a in another, as the model has them; pad rows
// are NaN.
struct DeltaProblem {
  DeltaShape shape;
  SequenceBatch batch;
  int64_t slots;
  std::vector<float> qkv, ba, a_log, dt_bias, state, out;
  MatmulInput input = MatmulInput::kF32;
  int32_t query_len = 0;

  DeltaProblem(const DeltaShape& of, SequenceBatch sequences, int64_t state_slots, uint32_t seed)
      : shape(of), batch(std::move(sequences)), slots(state_slots) {
    std::mt19937 random(seed);
    const auto rows = static_cast<size_t>(batch.rows());
    qkv = random_floats(rows * width(), random);
    ba = random_floats(rows * ba_width(), random, 2.0f);
    a_log = random_floats(static_cast<size_t>(shape.value_heads), random, 3.0f);
    for (float& log : a_log)
      log -= 3.0f;  // decays from e^-1 to e^-1/400 a row: some heads remember everything
    dt_bias = random_floats(static_cast<size_t>(shape.value_heads), random);
    state = random_floats(static_cast<size_t>(slots * slot_size()), random, 0.5f);
    out.assign(rows * static_cast<size_t>(shape.value_heads * shape.value_dim), kNan);
    const auto live = static_cast<size_t>(batch.num_rows.get());
    std::fill(qkv.begin() + static_cast<int64_t>(live * width()), qkv.end(), kNan);
    std::fill(ba.begin() + static_cast<int64_t>(live * ba_width()), ba.end(), kNan);
  }

  int64_t slot_size() const { return shape.value_heads * shape.key_dim * shape.value_dim; }
  size_t width() const {
    return static_cast<size_t>(2 * shape.key_heads * shape.key_dim + shape.value_heads * shape.value_dim);
  }
  size_t ba_width() const { return static_cast<size_t>(2 * shape.value_heads); }

  // The part of a row of qkv that begins at `column`, as [T, heads, size].
  TensorView part(int64_t column, int64_t heads, int64_t size) {
    TensorView all = dense_view(qkv.data() + column, DType::kF32, {batch.rows(), heads, size});
    all.strides[0] = static_cast<int64_t>(width());
    return all;
  }

  GatedDeltaArgs args(std::vector<char>& workspace, int threads) {
    const int64_t keys = shape.key_heads * shape.key_dim;
    const TensorView both = view(ba, {batch.rows(), 2 * shape.value_heads});
    const int64_t bytes =
        std::max(gated_delta_workspace_bytes(threads, shape.key_dim, shape.value_dim),
                 gated_delta_device_bytes(batch.rows(), shape.key_heads, shape.value_heads, shape.key_dim));
    workspace.assign(static_cast<size_t>(bytes), -1);
    return {.q = part(0, shape.key_heads, shape.key_dim),
            .k = part(keys, shape.key_heads, shape.key_dim),
            .v = part(2 * keys, shape.value_heads, shape.value_dim),
            .b = both.columns(0, shape.value_heads),
            .a = both.columns(shape.value_heads, shape.value_heads),
            .a_log = view(a_log, {shape.value_heads}),
            .dt_bias = view(dt_bias, {shape.value_heads}),
            .state = view(state, {slots, shape.value_heads, shape.key_dim, shape.value_dim}),
            .query_start_loc = view(batch.query_start_loc, {batch.seqs() + 1}),
            .state_read_slot = view(batch.read_slots, {batch.seqs()}),
            .state_write_slots = view(batch.write_slots, {batch.rows()}),
            .has_initial_state = view(batch.has_state, {batch.seqs()}),
            .out = view(out, {batch.rows(), shape.value_heads, shape.value_dim}),
            .workspace = dense_view(workspace.data(), DType::kU8, {static_cast<int64_t>(workspace.size())}),
            .num_rows = &batch.num_rows,
            .num_seqs = &batch.num_seqs,
            .input = input,
            .query_len = query_len};
  }

  Status run(const KernelTable& table, int threads = 1) {
    Stream stream(threads);
    std::vector<char> workspace;
    return gated_delta({table, stream}, args(workspace, threads), "test");
  }

  const float* slot(int64_t index) const { return state.data() + index * slot_size(); }
  const float* row(int64_t index) const { return out.data() + index * shape.value_heads * shape.value_dim; }
};

// What the recurrence yields for one value head of one sequence, in f64.
struct DeltaTruth {
  std::vector<double> out;                  // [rows, Dv]
  std::vector<std::vector<double>> states;  // after each row: [Dk, Dv], of those that are kept
  double magnitude = 0;                     // largest norm of a state's column plus largest |v|
};

inline std::vector<double> normalised(const float* x, int64_t size, double scale) {
  double squares = 1e-6;
  for (int64_t d = 0; d < size; ++d) squares += double{x[d]} * double{x[d]};
  std::vector<double> unit(static_cast<size_t>(size));
  for (int64_t d = 0; d < size; ++d) unit[static_cast<size_t>(d)] = x[d] * scale / std::sqrt(squares);
  return unit;
}

// `initial` null: zeros. Precondition: the problem was not run yet, or its read slots were not written.
inline DeltaTruth delta_truth(const DeltaProblem& problem, int64_t sequence, int64_t head,
                              const float* initial) {
  const auto [key_heads, value_heads, dk, dv] = problem.shape;
  DeltaTruth truth;
  std::vector<double> s(static_cast<size_t>(dk * dv), 0.0);
  for (size_t i = 0; initial != nullptr && i < s.size(); ++i)
    s[i] = initial[static_cast<size_t>(head * dk * dv) + i];
  double largest_column = 0, largest_value = 0;
  const auto begin = problem.batch.query_start_loc[static_cast<size_t>(sequence)];
  const auto end = problem.batch.query_start_loc[static_cast<size_t>(sequence) + 1];
  for (int64_t t = begin; t < end; ++t) {
    const float* row = problem.qkv.data() + t * static_cast<int64_t>(problem.width());
    const float* ba = problem.ba.data() + t * static_cast<int64_t>(problem.ba_width());
    const int64_t key_head = head / (value_heads / key_heads);
    const auto q = normalised(row + key_head * dk, dk, 1.0 / std::sqrt(static_cast<double>(dk)));
    const auto k = normalised(row + (key_heads + key_head) * dk, dk, 1.0);
    const float* v = row + 2 * key_heads * dk + head * dv;
    const double beta = 1 / (1 + std::exp(-double{ba[head]}));
    const auto h = static_cast<size_t>(head);
    const double x = double{ba[value_heads + head]} + double{problem.dt_bias[h]};
    const double decay = std::exp(-std::exp(double{problem.a_log[h]}) * std::log1p(std::exp(x)));
    for (int64_t e = 0; e < dv; ++e) {
      double memory = 0, sum = 0, squares = 0;
      const auto at = [&](int64_t d) -> double& { return s[static_cast<size_t>(d * dv + e)]; };
      for (int64_t d = 0; d < dk; ++d) memory += (at(d) *= decay) * k[static_cast<size_t>(d)];
      for (int64_t d = 0; d < dk; ++d) {
        at(d) += k[static_cast<size_t>(d)] * beta * (v[e] - memory);
        sum += at(d) * q[static_cast<size_t>(d)];
        squares += at(d) * at(d);
      }
      truth.out.push_back(sum);
      largest_column = std::max(largest_column, std::sqrt(squares));
      largest_value = std::max(largest_value, std::abs(double{v[e]}));
    }
    const bool kept = problem.batch.write_slots[static_cast<size_t>(t)] >= 0;
    truth.states.push_back(kept ? s : std::vector<double>());
  }
  truth.magnitude = largest_column + largest_value;
  return truth;
}

// Largest error allowed in an element of a state or of an output after `rows` rows. A step maps a column s of
// the state by I - beta k kᵀ, a contraction, so an error once made does not grow. A step's own error is one
// of norm eps M along k, from the prediction (a sum of products of a unit vector with a column of norm M),
// and one of eps per element; over the rows these add up as independent errors do, to eps M sqrt(rows),
// spread over Dk elements. The norms and the gates add the roundings of about eight more rows. An output is a
// column times a vector of norm Dk^-1/2, and its own sum errs by eps M Dk^-1/2. Four deviations bound the
// largest of many.
inline double delta_tolerance(const DeltaTruth& truth, const DeltaShape& shape, int64_t rows) {
  return 4 * 0x1p-24 * truth.magnitude *
         std::sqrt(static_cast<double>(rows + 8) / static_cast<double>(shape.key_dim));
}

}  // namespace lockstep::testing
