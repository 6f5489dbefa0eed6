// Sampler: logits to token ids; the step's only copy from the device to the host.
#pragma once

#include <vector>

#include "attention/context/context_group.h"
#include "contract/binder.h"
#include "contract/prepared_step.h"
#include "device/landing.h"
#include "kernels/sample/sample.h"

namespace lockstep {

struct StepResult;

struct SamplerLimits {
  int64_t logits_rows = 0;
  int64_t vocab = 0;          // columns of the logits
  int32_t vocab_known = 0;    // ids that may be drawn
  int64_t penalty_slots = 0;  // rows of token counts, the reserved one included
  int threads = 1;
  ContextGroup context{};  // the ranks that share a step's rows: all count the tokens of all
  int64_t seqs = 0;        // padded sequences of a step, where there are such ranks
};

// Thread: one owner.
class Sampler {
 public:
  static int64_t footprint(const SamplerLimits& limits);
  static Result<Sampler> create(const SamplerLimits& limits, Arena& arena);

  // Pure. `tokens` are the step's resolved tokens, `logits` the decoder's.
  Status prepare(const Binder& binder, const TensorView& tokens, const TensorView& logits,
                 PreparedStep& step) const;
  Status run(const PreparedStep& step, const Launcher& on) const;
  // Enqueues the copy of the first `rows` rows' outcome to the host, to one of kArrivals places: the outcome
  // of a step stays while that of the next one arrives.
  static constexpr int kArrivals = 2;
  Status download(int32_t rows, int arrival, Stream& stream);
  // What download() brought there, once the stream has passed it.
  void collect(int32_t rows, int arrival, StepResult& result) const {
    collect(rows, landing_.at<std::byte>(arrival * outcome_bytes_), result);
  }
  // All that a step brings, in one piece, and the same from bytes that somebody else has brought.
  TensorView outcome() const { return dense_view(tokens_.data, DType::kU8, {outcome_bytes_}); }
  void collect(int32_t rows, const std::byte* outcome, StepResult& result) const;

  // Tokens of the last step, one per logits row: what token sources name.
  const TensorView& sampled() const { return tokens_; }

 private:
  struct Launch;
  Status count(const Launch& launch, const Launcher& on) const;
  Status count_of_all_ranks(const Launch& launch, const Launcher& on) const;

  SamplerLimits limits_;
  TensorView counts_;         // [penalty slots, V] i32
  TensorView tokens_;         // [R] i32
  TensorView token_logprob_;  // [R] f32
  TensorView top_tokens_;     // [R, M] i32
  TensorView top_logprobs_;   // [R, M] f32
  TensorView non_finite_;     // [R] i32
  TensorView workspace_;      // u8
  // Of all ranks, rank by rank; null where a rank is alone.
  TensorView all_tokens_;     // [N, 1] i32
  TensorView all_positions_;  // [N, 1] i32
  TensorView all_starts_;     // [ranks * (S + 1), 1] i32
  // Where a part of the outcome lies in it.
  int64_t place_of(const TensorView& part) const {
    return static_cast<const std::byte*>(part.data) - static_cast<const std::byte*>(tokens_.data);
  }
  int64_t outcome_bytes_ = 0;  // from the first byte of tokens_ to the last of non_finite_
  Landing landing_;            // [kArrivals, outcome_bytes_]
};

}  // namespace lockstep
