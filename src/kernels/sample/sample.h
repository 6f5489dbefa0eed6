// Sampling: one token per logits row from facts that travel in the plan. The draw of a row depends on its
// logits, its seed and its position, on nothing else.
#pragma once

#include "base/units.h"
#include "kernels/common/launcher.h"
#include "tensor/op_spec.h"
#include "tensor/tensor.h"

namespace lockstep {

// How often each token stands in a sequence, for the penalties: counts[slot, v] = 2 * occurrences among
// generated tokens, plus 1 if v stands in the prompt. A row adds its own token; a row at position 0 clears
// its slot first. Ids outside [0, V) are passed over.
struct CountTokensArgs {
  TensorView token_ids;        // [T] i32, resolved
  TensorView positions;        // [T] i32
  TensorView query_start_loc;  // [S + 1] i32
  TensorView penalty_slots;    // [S] i32; -1: this sequence has no penalties
  TensorView prompt_lens;      // [S] i32: rows at positions below it are prompt
  TensorView counts;           // [N, V] i32
  const LiveSeqs* num_seqs = nullptr;
};

struct SampleArgs {
  TensorView logits;              // [R, V] f32; only the first vocab_size columns may be drawn
  TensorView temperature;         // [R] f32; 0: greedy
  TensorView top_k;               // [R] i32; 0: off
  TensorView top_p;               // [R] f32; 1: off
  TensorView min_p;               // [R] f32; 0: off
  TensorView repetition_penalty;  // [R] f32; 1: off
  TensorView presence_penalty;    // [R] f32; 0: off
  TensorView frequency_penalty;   // [R] f32; 0: off
  TensorView seed;                // [R] u64
  TensorView position;            // [R] i32: of the token to be drawn
  TensorView penalty_slot;        // [R] i32; -1: none
  TensorView logprobs;       // [R] i32: how many of the best to report; -1: none, 0: only the drawn token's
  TensorView counts;         // [N, V] i32
  TensorView tokens;         // [R] i32, out; -1 where the row is not finite, and for pad rows
  TensorView token_logprob;  // [R] f32, out: log softmax(raw logits)[token]
  TensorView top_tokens;     // [R, M] i32, out: the best by raw logits, descending; -1 past the asked count
  TensorView top_logprobs;   // [R, M] f32, out
  TensorView non_finite;     // [R] i32, out: NaN and infinite logits among the first vocab_size
  TensorView workspace;      // u8, at least sample_workspace_bytes(...)
  const LiveRows* num_logits_rows = nullptr;
  int64_t vocab_size = 0;  // ids the tokenizer knows; embedding rows past it are never drawn
};

inline constexpr OpArg kCountTokensArgs[] = {
    {LS_ARG(CountTokensArgs, token_ids), .access = Access::kRead, .dims = "T", .rows = RowsTouched::kLive},
    {LS_ARG(CountTokensArgs, positions), .access = Access::kRead, .dims = "T", .rows = RowsTouched::kLive},
    {LS_ARG(CountTokensArgs, query_start_loc), .access = Access::kRead, .dims = "S1",
     .rows = RowsTouched::kLive},
    {LS_ARG(CountTokensArgs, penalty_slots), .access = Access::kRead, .dims = "S",
     .rows = RowsTouched::kLive},
    {LS_ARG(CountTokensArgs, prompt_lens), .access = Access::kRead, .dims = "S", .rows = RowsTouched::kLive},
    {LS_ARG(CountTokensArgs, counts), .access = Access::kReadWrite, .dims = "NV", .rows = RowsTouched::kOwned,
     .pad = PadRows::kUntouched, .any_stride = true},
    {LS_ARG(CountTokensArgs, num_seqs), .rows = RowsTouched::kNone},
};
inline constexpr OpSpec kCountTokensSpec{
    .name = "count_tokens", .args = kCountTokensArgs, .args_bytes = sizeof(CountTokensArgs)};

inline constexpr OpArg kSampleArgs[] = {
    {LS_ARG(SampleArgs, logits), .access = Access::kRead, .dims = "RV", .rows = RowsTouched::kLive,
     .any_stride = true},
    {LS_ARG(SampleArgs, temperature), .access = Access::kRead, .dims = "R", .rows = RowsTouched::kLive},
    {LS_ARG(SampleArgs, top_k), .access = Access::kRead, .dims = "R", .rows = RowsTouched::kLive},
    {LS_ARG(SampleArgs, top_p), .access = Access::kRead, .dims = "R", .rows = RowsTouched::kLive},
    {LS_ARG(SampleArgs, min_p), .access = Access::kRead, .dims = "R", .rows = RowsTouched::kLive},
    {LS_ARG(SampleArgs, repetition_penalty), .access = Access::kRead, .dims = "R",
     .rows = RowsTouched::kLive},
    {LS_ARG(SampleArgs, presence_penalty), .access = Access::kRead, .dims = "R", .rows = RowsTouched::kLive},
    {LS_ARG(SampleArgs, frequency_penalty), .access = Access::kRead, .dims = "R", .rows = RowsTouched::kLive},
    {LS_ARG(SampleArgs, seed), .access = Access::kRead, .dims = "R", .rows = RowsTouched::kLive},
    {LS_ARG(SampleArgs, position), .access = Access::kRead, .dims = "R", .rows = RowsTouched::kLive},
    {LS_ARG(SampleArgs, penalty_slot), .access = Access::kRead, .dims = "R", .rows = RowsTouched::kLive},
    {LS_ARG(SampleArgs, logprobs), .access = Access::kRead, .dims = "R", .rows = RowsTouched::kLive},
    {LS_ARG(SampleArgs, counts), .access = Access::kRead, .dims = "NV", .rows = RowsTouched::kOwned,
     .any_stride = true},
    {LS_ARG(SampleArgs, tokens), .access = Access::kWrite, .dims = "R", .pad = PadRows::kSkip},
    {LS_ARG(SampleArgs, token_logprob), .access = Access::kWrite, .dims = "R"},
    {LS_ARG(SampleArgs, top_tokens), .access = Access::kWrite, .dims = "RM", .pad = PadRows::kSkip,
     .any_stride = true},
    {LS_ARG(SampleArgs, top_logprobs), .access = Access::kWrite, .dims = "RM", .any_stride = true},
    {LS_ARG(SampleArgs, non_finite), .access = Access::kWrite, .dims = "R"},
    {LS_ARG(SampleArgs, workspace), .access = Access::kWrite, .dims = "W", .rows = RowsTouched::kNone},
    {LS_ARG(SampleArgs, num_logits_rows), .rows = RowsTouched::kNone},
    {LS_ARG(SampleArgs, vocab_size), .rows = RowsTouched::kNone},
};
inline constexpr OpSpec kSampleSpec{
    .name = "sample",
    .args = kSampleArgs,
    .args_bytes = sizeof(SampleArgs),
    .workspace = "sample_workspace_bytes: 16 bytes per token of V and thread"};

// Bytes of workspace for this many threads and V columns.
int64_t sample_workspace_bytes(int threads, int64_t vocab);

// Sequences of penalty slot -1 and pad sequences touch nothing. Errors: kInvalidArgument. Cost: one launch.
Status count_tokens(const Launcher& on, const CountTokensArgs& args, std::string_view stage);

// Order of work, as vLLM: repetition (divide positive, multiply negative logits of tokens seen in prompt or
// output), frequency, presence (output only), temperature, min-p, top-k, top-p, draw. Penalties of a row
// without a slot are off. A temperature below 1e-5 is greedy: the best after the penalties, cuts unread.
//
// With x the logits after penalties and temperature, d = x - max x and w = exp(d): min-p drops w < min_p;
// top-k keeps exactly the k largest x, ties to the lower id; top-p keeps a token if the w of those ranked
// above it sum to less than top_p of all that is left. The best always stays. The draw is Gumbel-max, argmax
// of d - ln(-ln(1 - v)), ties to the lower id, v from Philox 4x32-10 at (seed, position, token): no order of
// summation enters. All of it is defined operation by operation in sample_math.h, in integers and IEEE f32,
// so every instruction set gives the same bits, and a device that repeats the operations draws the same
// token.
//
// A row with a NaN or an infinity (of either sign) among its first vocab_size logits draws nothing: its token
// is -1, its non_finite says how many. Such a row, a pad row, and one that asks for no logprobs report 0 and
// -1 there. Logprobs are of the raw logits over the first vocab_size tokens.
// Errors: kInvalidArgument. Cost: one launch, one row per thread at a time, O(V) without sorting; on an EPYC
// of 2.6 GHz a row of 151936 takes 0.02 ms greedy, 0.3 ms with temperature, up to 0.7 ms with top-k and top-p
// (AVX-512; sample_bench).
// Source: Salmon et al. 2011, Parallel Random Numbers: As Easy as 1, 2, 3 (Philox); Maddison et al. 2014, A*
// Sampling (Gumbel-max); Holtzman et al. 2020 (top-p); Nguyen et al. 2024 (min-p).
Status sample(const Launcher& on, const SampleArgs& args, std::string_view stage);

}  // namespace lockstep
