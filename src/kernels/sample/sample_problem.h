// Test support for sample: rows of logits with their facts, and poisoned outputs.
#pragma once

#include "kernels/common/sequence_batch.h"
#include "kernels/sample/sample.h"

namespace lockstep::testing {

struct SampleProblem {
  int64_t rows, columns, room;
  int32_t vocab_size;
  LiveRows live;
  std::vector<float> logits, temperature, top_p, min_p, repetition, presence, frequency;
  std::vector<int32_t> top_k, position, penalty_slot, logprobs, counts;
  std::vector<uint64_t> seed;
  std::vector<int32_t> tokens, top_tokens, non_finite;
  std::vector<float> token_logprob, top_logprobs;

  // Rows of zeros that draw greedily and report nothing.
  SampleProblem(int64_t of_rows, int64_t of_columns, int64_t of_room = 4)
      : rows(of_rows),
        columns(of_columns),
        room(of_room),
        vocab_size(static_cast<int32_t>(of_columns)),
        live(of_rows) {
    const auto r = static_cast<size_t>(rows);
    logits.assign(r * static_cast<size_t>(columns), 0.0f);
    for (auto* facts : {&temperature, &min_p, &presence, &frequency}) facts->assign(r, 0.0f);
    for (auto* facts : {&top_p, &repetition}) facts->assign(r, 1.0f);
    for (auto* facts : {&top_k, &position}) facts->assign(r, 0);
    for (auto* facts : {&penalty_slot, &logprobs}) facts->assign(r, -1);
    seed.assign(r, 0);
    counts.assign(static_cast<size_t>(2 * columns), 0);
    tokens.assign(r, -7);
    non_finite.assign(r, -7);
    token_logprob.assign(r, kNan);
    top_tokens.assign(r * static_cast<size_t>(room), -7);
    top_logprobs.assign(r * static_cast<size_t>(room), kNan);
  }

  float* row(int64_t r) { return logits.data() + r * columns; }

  SampleArgs args(std::vector<char>& workspace, int threads) {
    workspace.assign(static_cast<size_t>(sample_workspace_bytes(threads, columns)), -1);
    return {.logits = view(logits, {rows, columns}),
            .temperature = view(temperature, {rows}),
            .top_k = view(top_k, {rows}),
            .top_p = view(top_p, {rows}),
            .min_p = view(min_p, {rows}),
            .repetition_penalty = view(repetition, {rows}),
            .presence_penalty = view(presence, {rows}),
            .frequency_penalty = view(frequency, {rows}),
            .seed = view(seed, {rows}),
            .position = view(position, {rows}),
            .penalty_slot = view(penalty_slot, {rows}),
            .logprobs = view(logprobs, {rows}),
            .counts = view(counts, {2, columns}),
            .tokens = view(tokens, {rows}),
            .token_logprob = view(token_logprob, {rows}),
            .top_tokens = view(top_tokens, {rows, room}),
            .top_logprobs = view(top_logprobs, {rows, room}),
            .non_finite = view(non_finite, {rows}),
            .workspace = dense_view(workspace.data(), DType::kU8, {static_cast<int64_t>(workspace.size())}),
            .num_logits_rows = &live,
            .vocab_size = vocab_size};
  }

  Status run(const KernelTable& table, int threads = 1) {
    Stream stream(threads);
    std::vector<char> workspace;
    return sample({table, stream}, args(workspace, threads), "test");
  }
};

}  // namespace lockstep::testing
