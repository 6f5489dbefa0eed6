// Test support for lightning: a random problem, how it is run, and the recurrence in f64 beside it.
#pragma once

#include <algorithm>
#include <cmath>

#include "kernels/common/sequence_batch.h"
#include "kernels/lightning/lightning.h"

namespace lockstep::testing {

struct LightningShape {
  int64_t heads = 1;
  int64_t key_heads = 1;
  int64_t key_dim = 16;
  int64_t value_dim = 16;
};

// q, k and v lie side by side in the rows of one buffer, as the model has them; pad rows are NaN.
struct LightningProblem {
  LightningShape shape;
  SequenceBatch batch;
  int64_t slots;
  float scale = 0.25f;
  std::vector<float> qkv, decay, state, out;
  MatmulInput input = MatmulInput::kF32;
  int32_t query_len = 0;

  LightningProblem(const LightningShape& of, SequenceBatch sequences, int64_t state_slots, uint32_t seed)
      : shape(of), batch(std::move(sequences)), slots(state_slots) {
    std::mt19937 random(seed);
    const auto rows = static_cast<size_t>(batch.rows());
    qkv = random_floats(rows * width(), random);
    // From a head that forgets most of a state with each row to one that keeps it for hundreds.
    for (int64_t h = 0; h < shape.heads; ++h)
      decay.push_back(static_cast<float>(
          std::exp(-std::exp2(-8.0 * static_cast<double>(h + 1) / static_cast<double>(shape.heads)))));
    state = random_floats(static_cast<size_t>(slots * slot_size()), random, 0.5f);
    out.assign(rows * static_cast<size_t>(shape.heads * shape.value_dim), kNan);
    const auto live = static_cast<size_t>(batch.num_rows.get());
    std::fill(qkv.begin() + static_cast<int64_t>(live * width()), qkv.end(), kNan);
  }

  int64_t slot_size() const { return shape.heads * shape.key_dim * shape.value_dim; }
  int64_t key_column() const { return shape.heads * shape.key_dim; }
  int64_t value_column() const { return key_column() + shape.key_heads * shape.key_dim; }
  size_t width() const { return static_cast<size_t>(value_column() + shape.key_heads * shape.value_dim); }

  // The part of a row of qkv that begins at `column`, as [T, heads, size].
  TensorView part(int64_t column, int64_t heads, int64_t size) {
    TensorView all = dense_view(qkv.data() + column, DType::kF32, {batch.rows(), heads, size});
    all.strides[0] = static_cast<int64_t>(width());
    return all;
  }

  LightningArgs args(std::vector<char>& workspace, int threads) {
    const auto [heads, key_heads, key_dim, value_dim] = shape;
    const int64_t bytes = std::max(lightning_workspace_bytes(threads, key_dim, value_dim),
                                   lightning_device_bytes(batch.rows(), key_heads, heads, key_dim));
    workspace.assign(static_cast<size_t>(bytes), -1);
    return {.q = part(0, heads, key_dim),
            .k = part(key_column(), key_heads, key_dim),
            .v = part(value_column(), key_heads, value_dim),
            .decay = view(decay, {heads}),
            .state = view(state, {slots, heads, key_dim, value_dim}),
            .query_start_loc = view(batch.query_start_loc, {batch.seqs() + 1}),
            .state_read_slot = view(batch.read_slots, {batch.seqs()}),
            .state_write_slots = view(batch.write_slots, {batch.rows()}),
            .has_initial_state = view(batch.has_state, {batch.seqs()}),
            .out = view(out, {batch.rows(), heads, value_dim}),
            .workspace = dense_view(workspace.data(), DType::kU8, {static_cast<int64_t>(workspace.size())}),
            .num_rows = &batch.num_rows,
            .num_seqs = &batch.num_seqs,
            .scale = scale,
            .input = input,
            .query_len = query_len};
  }

  Status run(const KernelTable& table, int threads = 1) {
    Stream stream(threads);
    std::vector<char> workspace;
    return lightning({table, stream}, args(workspace, threads), "test");
  }

  const float* slot(int64_t index) const { return state.data() + index * slot_size(); }
  const float* row(int64_t index) const { return out.data() + index * shape.heads * shape.value_dim; }
};

// What the recurrence yields for one head of one sequence, in f64.
struct LightningTruth {
  std::vector<double> out;                  // [rows, E]
  std::vector<std::vector<double>> states;  // after each row: [D, E], of those that are kept
  double column = 0;                        // largest norm of a column of a state
  double query = 0;                         // largest norm of a scaled query
};

// `initial` null: zeros. Precondition: the problem was not run yet, or its read slots were not written.
inline LightningTruth lightning_truth(const LightningProblem& problem, int64_t sequence, int64_t head,
                                      const float* initial) {
  const auto [heads, key_heads, dk, dv] = problem.shape;
  LightningTruth truth;
  std::vector<double> s(static_cast<size_t>(dk * dv), 0.0);
  for (size_t i = 0; initial != nullptr && i < s.size(); ++i)
    s[i] = initial[static_cast<size_t>(head * dk * dv) + i];
  const int64_t key_head = head / (heads / key_heads);
  const double decay = problem.decay[static_cast<size_t>(head)];
  const auto begin = problem.batch.query_start_loc[static_cast<size_t>(sequence)];
  const auto end = problem.batch.query_start_loc[static_cast<size_t>(sequence) + 1];
  for (int64_t t = begin; t < end; ++t) {
    const float* row = problem.qkv.data() + t * static_cast<int64_t>(problem.width());
    const float* q = row + head * dk;
    const float* k = row + problem.key_column() + key_head * dk;
    const float* v = row + problem.value_column() + key_head * dv;
    double norm = 0;
    for (int64_t d = 0; d < dk; ++d) norm += std::pow(double{q[d]} * double{problem.scale}, 2);
    truth.query = std::max(truth.query, std::sqrt(norm));
    for (int64_t e = 0; e < dv; ++e) {
      double sum = 0, squares = 0;
      for (int64_t d = 0; d < dk; ++d) {
        double& at = s[static_cast<size_t>(d * dv + e)];
        at = decay * at + double{k[d]} * double{v[e]};
        sum += double{q[d]} * double{problem.scale} * at;
        squares += at * at;
      }
      truth.out.push_back(sum);
      truth.column = std::max(truth.column, std::sqrt(squares));
    }
    const bool kept = problem.batch.write_slots[static_cast<size_t>(t)] >= 0;
    truth.states.push_back(kept ? s : std::vector<double>());
  }
  return truth;
}

// Largest errors allowed after `rows` rows. A row rounds each element of a column twice, so the column by a
// vector of norm sqrt(2) eps M; earlier errors decay, and those of the rows add up as independent ones do, to
// eps M sqrt(2 rows). An output is the column times a query, rounded D times on the way, and the query once.
// Four deviations bound the largest of many.
inline double state_tolerance(const LightningTruth& truth, int64_t rows) {
  return 4 * 0x1p-24 * truth.column * std::sqrt(2.0 * static_cast<double>(rows));
}
inline double out_tolerance(const LightningTruth& truth, const LightningShape& shape, int64_t rows) {
  return truth.query * (state_tolerance(truth, rows) +
                        4 * 0x1p-24 * truth.column * std::sqrt(static_cast<double>(shape.key_dim + 1)));
}

}  // namespace lockstep::testing
