// Sampling: one token per logits row from facts that travel in the plan. The draw of a row depends on its
// logits, its seed and its position, on nothing else.
#pragma once

#include "base/units.h"
#include "kernels/common/launcher.h"
#include "tensor/op_spec.h"
#include "tensor/tensor.h"

namespace lockstep {

// How often each token stands in a sequence, for the penalties. counts[slot, v] = occurrences among generated
// tokens
// * 2, plus 1 if v stands in the prompt. A row adds its own token; a row at position 0 clears its slot first.
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
  int32_t vocab_size = 0;  // ids the tokenizer knows; embedding rows past it are never drawn
};

inline constexpr OpArg kCountTokensArgs[] = {
    {.name = "token_ids", .access = Access::kRead, .dims = "T"},
    {.name = "positions", .access = Access::kRead, .dims = "T"},
    {.name = "query_start_loc", .access = Access::kRead, .dims = "S1"},
    {.name = "penalty_slots", .access = Access::kRead, .dims = "S"},
    {.name = "prompt_lens", .access = Access::kRead, .dims = "S"},
    {.name = "counts",
     .access = Access::kReadWrite,
     .dims = "NV",
     .rows = RowsTouched::kOwned,
     .pad = PadRows::kUntouched},
    {.name = "num_seqs", .access = Access::kRead, .dims = "", .rows = RowsTouched::kNone},
};
inline constexpr OpSpec kCountTokensSpec{.name = "count_tokens", .args = kCountTokensArgs};

inline constexpr OpArg kSampleArgs[] = {
    {.name = "logits", .access = Access::kRead, .dims = "RV"},
    {.name = "temperature", .access = Access::kRead, .dims = "R"},
    {.name = "top_k", .access = Access::kRead, .dims = "R"},
    {.name = "top_p", .access = Access::kRead, .dims = "R"},
    {.name = "min_p", .access = Access::kRead, .dims = "R"},
    {.name = "repetition_penalty", .access = Access::kRead, .dims = "R"},
    {.name = "presence_penalty", .access = Access::kRead, .dims = "R"},
    {.name = "frequency_penalty", .access = Access::kRead, .dims = "R"},
    {.name = "seed", .access = Access::kRead, .dims = "R"},
    {.name = "position", .access = Access::kRead, .dims = "R"},
    {.name = "penalty_slot", .access = Access::kRead, .dims = "R"},
    {.name = "logprobs", .access = Access::kRead, .dims = "R"},
    {.name = "counts", .access = Access::kRead, .dims = "NV", .rows = RowsTouched::kOwned},
    {.name = "tokens", .access = Access::kWrite, .dims = "R", .pad = PadRows::kSkip},
    {.name = "token_logprob", .access = Access::kWrite, .dims = "R"},
    {.name = "top_tokens", .access = Access::kWrite, .dims = "RM", .pad = PadRows::kSkip},
    {.name = "top_logprobs", .access = Access::kWrite, .dims = "RM"},
    {.name = "non_finite", .access = Access::kWrite, .dims = "R"},
    {.name = "workspace", .access = Access::kReadWrite, .dims = "W", .rows = RowsTouched::kNone},
    {.name = "num_logits_rows", .access = Access::kRead, .dims = "", .rows = RowsTouched::kNone},
};
inline constexpr OpSpec kSampleSpec{.name = "sample",
                                    .args = kSampleArgs,
                                    .workspace = "sample_workspace_bytes: V values and V indices per thread"};

int64_t sample_workspace_bytes(int threads, int64_t vocab);

Status count_tokens(const Launcher& on, const CountTokensArgs& args, std::string_view stage);

// Order of work, as vLLM: repetition (divide positive, multiply negative logits of tokens seen in prompt or
// output), presence, frequency (output only), temperature, min-p, top-k, top-p, draw. Ties of logits go to
// the lower id. The draw is Gumbel-max: argmax of logit / temperature + gumbel(seed, position, token), the
// noise from a counter-based generator, so no order of summation enters and every device draws the same
// token. Errors: kInvalidArgument. Cost: one launch, one row per thread at a time.
Status sample(const Launcher& on, const SampleArgs& args, std::string_view stage);

}  // namespace lockstep
