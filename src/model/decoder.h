// Decoder: one forward pass of any family, from a plan's rows to logits. The only layer loop.
#pragma once

#include <memory>

#include "attention/attention_backend.h"
#include "attention/context/context_group.h"
#include "contract/binder.h"
#include "model/activations.h"
#include "model/blocks/blocks.h"
#include "model/decoder_spec.h"
#include "model/weights.h"

namespace lockstep {

struct DecoderOptions {
  MatmulInput input = MatmulInput::kF32;
  ActivationLimits limits;  // rows and logits rows; the rest is filled in
  int threads = 1;
  bool on_device = false;  // whether ops launch on one
  Mesh* mesh = nullptr;    // of which the spec is a shard; null: the rank is alone
};

// Thread: one owner. Borrows spec, weights, backends and mesh. The ranks of a mesh run the same steps, at the
// same rows.
class Decoder {
 public:
  // Bytes of arena that `create` takes.
  static int64_t footprint(const DecoderSpec& spec, const DecoderOptions& options,
                           const AttentionBackend& attention, const RecurrentBackend& recurrent);
  static Result<Decoder> create(const DecoderSpec& spec, const DecoderWeights& weights,
                                const DecoderOptions& options, const AttentionBackend& attention,
                                const RecurrentBackend& recurrent, Arena& arena);

  // Pure: binds what the pass reads and adds it to `step`.
  Status prepare(const Binder& binder, PreparedStep& step) const;

  // Enqueues the pass that `step` was prepared for. `sampled` [R] i32 holds the tokens of the source step.
  // The logits of the plan's logits rows are in logits() of the same number of rows afterwards.
  Status run(const PreparedStep& step, const TensorView& sampled, const Launcher& on) const;

  TensorView logits(int64_t logits_rows) const { return act_.logits.rows(0, logits_rows); }
  // The step's tokens with sources resolved, for whoever counts them.
  TensorView tokens(int64_t rows) const { return act_.tokens.rows(0, rows); }

 private:
  Decoder(const DecoderSpec& spec, const DecoderWeights& weights, const DecoderOptions& options,
          const AttentionBackend& attention, const RecurrentBackend& recurrent)
      : spec_(spec), weights_(weights), options_(options), attention_(attention), recurrent_(recurrent) {}
  struct Launch;
  Status embed(const Launch& launch, const TensorView& sampled, const BlockContext& context) const;
  Status layers(const Launch& launch, const BlockContext& context) const;
  Status pick_rows(const Launch& launch, const BlockContext& context) const;
  Status head(const Launch& launch, const BlockContext& context) const;

  const DecoderSpec& spec_;
  const DecoderWeights& weights_;
  DecoderOptions options_;
  const AttentionBackend& attention_;
  const RecurrentBackend& recurrent_;
  Activations act_;
  TensorView inv_freq_;  // [rotary dims / 2]
  TensorView decay_;     // [heads] of the lightning layers
};

}  // namespace lockstep
