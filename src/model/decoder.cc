#include "model/decoder.h"

#include <algorithm>
#include <cstring>

#include "comm/collectives.h"
#include "kernels/embedding/embedding.h"
#include "kernels/qk_norm_rope/qk_norm_rope.h"
#include "kernels/rms_norm/rms_norm.h"
#include "kernels/rows/rows.h"
#include "model/blocks/shared_rows.h"
#include "model/decays.h"
#include "model/rope.h"
#include "model/state_geometry.h"

namespace lockstep {
namespace {

constexpr const OpSpec* kOps[] = {&kResolveTokensSpec, &kEmbeddingSpec, &kRopeAnglesSpec, &kGatherRowsSpec,
                                  &kSharedRowsSpec};
constexpr FieldUse kUses[] = {
    {.field = FieldId::token_ids, .argument = "resolve_tokens.token_ids"},
    {.field = FieldId::token_source, .argument = "resolve_tokens.token_source"},
    {.field = FieldId::positions, .argument = "rope_angles.positions"},
    {.field = FieldId::logits_rows, .argument = "gather_rows.rows"},
    {.field = FieldId::num_rows, .argument = "*.num_rows"},
    {.field = FieldId::num_logits_rows, .argument = "gather_rows.num_logits_rows"},
    {.field = FieldId::cp_ranks, .feed = Feed::kValue, .argument = {}},
    {.field = FieldId::num_logits_rows, .argument = "linear.num_rows"},
    {.field = FieldId::num_logits_rows, .argument = "linear_prepare.num_rows"},
    {.field = FieldId::num_logits_rows, .argument = "shared_rows.num_logits_rows"},
    {.field = FieldId::logits_rows, .argument = "shared_rows.rows"},
    {.field = FieldId::cp_logits_rows, .argument = "shared_rows.places"},
    {.field = FieldId::cp_rank, .feed = Feed::kValue, .argument = {}},
};
constexpr ConsumerSpec kConsumer{.name = "decoder", .ops = kOps, .fields = kUses};

ActivationLimits with_workspace(const DecoderSpec& spec, const DecoderOptions& options,
                                const AttentionBackend& attention, const RecurrentBackend& recurrent) {
  ActivationLimits limits = options.limits;
  limits.tp = options.mesh != nullptr ? options.mesh->shape().tp : 1;
  limits.expert_replicas = expert_replicas(options.mesh);
  limits.workspace_bytes =
      std::max(block_workspace_bytes(spec, limits), linear_workspace_bytes(limits.logits_rows, spec.width));
  const ContextGroup context = context_group(options.mesh, limits.rows);
  if (context.ranks > 1) {
    limits.workspace_bytes = std::max(
        limits.workspace_bytes, shared_rows_scratch_bytes(limits.logits_rows, spec.width, context.ranks));
  }
  if (limits.tp > 1) {
    limits.workspace_bytes =
        std::max(limits.workspace_bytes,
                 gather_columns_scratch_bytes(limits.logits_rows, spec.vocab_rows.count, limits.tp));
  }
  if (spec.count(Mixer::kSoftmax) > 0) {
    const SoftmaxMixerSpec& s = spec.softmax;
    limits.workspace_bytes = std::max(
        limits.workspace_bytes, attention.workspace_bytes(options.threads, s.heads, s.kv_heads, s.head_dim));
  }
  if (spec.recurrent_layers() > 0) {
    const StateGeometry state = state_geometry(spec, 1);
    const RecurrentSize size{
        .threads = options.threads,
        .device_rows = options.on_device ? limits.rows : 0,
        .key_heads = spec.count(Mixer::kLightning) > 0 ? spec.lightning.kv_heads : spec.delta.key_heads,
        .heads = state.value_heads,
        .key_dim = state.key_dim,
        .value_dim = state.value_dim};
    limits.workspace_bytes = std::max(limits.workspace_bytes, recurrent.workspace_bytes(size));
  }
  return limits;
}

}  // namespace

// What one step's forward pass reads of the plan.
struct Decoder::Launch {
  FieldView token_ids;       // [T]
  FieldView token_source;    // [T]
  FieldView positions;       // [T]
  FieldView logits_rows;     // [R]
  FieldView cp_logits_rows;  // [R], where ranks share the rows
  const LiveRows* num_rows = nullptr;
  const LiveRows* num_logits_rows = nullptr;
  ContextCut cut;
};

int64_t Decoder::footprint(const DecoderSpec& spec, const DecoderOptions& options,
                           const AttentionBackend& attention, const RecurrentBackend& recurrent) {
  return activation_footprint(spec, with_workspace(spec, options, attention, recurrent)) +
         Arena::footprint(DType::kF32, {spec.rope().dims / 2}) +
         Arena::footprint(DType::kF32, {spec.lightning.heads});
}

Result<Decoder> Decoder::create(const DecoderSpec& spec, const DecoderWeights& weights,
                                const DecoderOptions& options, const AttentionBackend& attention,
                                const RecurrentBackend& recurrent, Arena& arena) {
  Decoder decoder(spec, weights, options, attention, recurrent);
  decoder.act_ =
      LS_TRY(allocate_activations(spec, with_workspace(spec, options, attention, recurrent), arena));
  const std::vector<float> frequencies = rope_frequencies(spec.rope());
  decoder.inv_freq_ =
      LS_TRY(arena.allocate("inv_freq", DType::kF32, {static_cast<int64_t>(frequencies.size())}));
  LS_TRY(arena.fill(decoder.inv_freq_, frequencies.data()));
  const std::vector<float> decays = lightning_decays(spec.lightning);
  decoder.decay_ = LS_TRY(arena.allocate("decay", DType::kF32, {static_cast<int64_t>(decays.size())}));
  LS_TRY(arena.fill(decoder.decay_, decays.data()));
  return decoder;
}

Status Decoder::prepare(const Binder& binder, PreparedStep& step) const {
  Launch& launch = step.add<Launch>(kConsumer);
  LS_TRY(binder.bind(kConsumer, {{FieldId::token_ids, launch.token_ids},
                                 {FieldId::token_source, launch.token_source},
                                 {FieldId::positions, launch.positions},
                                 {FieldId::logits_rows, launch.logits_rows},
                                 {field::num_rows, launch.num_rows},
                                 {field::num_logits_rows, launch.num_logits_rows}}));
  // Here also where this rank is alone: nobody runs a share of the rows for the whole.
  launch.cut = LS_TRY(bind_cut(binder, kConsumer, context_group(options_.mesh, options_.limits.rows)));
  if (launch.cut.shared()) LS_TRY(binder.bind(kConsumer, {{FieldId::cp_logits_rows, launch.cp_logits_rows}}));
  if (spec_.count(Mixer::kSoftmax) > 0) LS_TRY(attention_.prepare(binder, kKvGroup, step));
  if (spec_.recurrent_layers() > 0) LS_TRY(recurrent_.prepare(binder, step));
  return {};
}

Status Decoder::run(const PreparedStep& step, const TensorView& sampled, const Launcher& on) const {
  const Launch& launch = *LS_TRY(step.get<Launch>(kConsumer));
  const Activations act = act_.at(launch.token_ids.entries, launch.logits_rows.entries);
  const BlockContext context{.spec = spec_,
                             .step = step,
                             .act = act,
                             .num_rows = launch.num_rows,
                             .input = options_.input,
                             .on = on,
                             .mesh = options_.mesh,
                             .decay = decay_};
  LS_TRY(embed(launch, sampled, context));
  LS_TRY(layers(launch, context));
  return head(launch, context);
}

Status Decoder::embed(const Launch& launch, const TensorView& sampled, const BlockContext& context) const {
  const Activations& act = context.act;
  LS_TRY(resolve_tokens(context.on,
                        {.token_ids = launch.token_ids,
                         .token_source = launch.token_source,
                         .sampled = sampled,
                         .out = act.tokens,
                         .num_rows = launch.num_rows},
                        "tokens"));
  LS_TRY(embedding(context.on,
                   {.token_ids = act.tokens,
                    .table = weights_.embedding,
                    .out = act.hidden,
                    .num_rows = launch.num_rows,
                    .first_row = spec_.vocab_rows.first,
                    .vocab = spec_.vocab,
                    .scale = spec_.multipliers.embedding},
                   "embedding"));
  LS_TRY(sum_parts(context, act.hidden, "embedding_sum"));
  if (inv_freq_.elements() == 0) return {};
  return rope_angles(context.on,
                     {.positions = launch.positions,
                      .inv_freq = inv_freq_,
                      .cos_sin = act.cos_sin,
                      .num_rows = launch.num_rows,
                      .magnitude = rope_magnitude(spec_.rope())},
                     "rope_angles");
}

// Each block leaves what it adds in `branch`; the next norm adds it to the residual stream first. The
// multipliers of branches and logits ride along with the norms: no row is read for them alone.
Status Decoder::layers(const Launch& launch, const BlockContext& context) const {
  const Activations& act = context.act;
  RmsNormArgs norm{.x = act.hidden,  // the first norm has nothing to add yet
                   .weight = {},
                   .residual = {},
                   .out = act.normed,
                   .num_rows = launch.num_rows,
                   .epsilon = spec_.norm_epsilon,
                   .flavour = spec_.norm,
                   .x_scale = spec_.multipliers.branch};
  int32_t softmax_layer = 0, recurrent_layer = 0;
  for (size_t i = 0; i < spec_.layers.size(); ++i) {
    context.on.stream.set_layer(static_cast<int32_t>(i));
    const LayerWeights& weights = weights_.layers[i];
    norm.weight = weights.input_norm;
    LS_TRY(rms_norm(context.on, norm, "input_norm"));
    norm.x = act.branch;
    norm.residual = act.hidden;
    switch (spec_.layers[i].mixer) {
      case Mixer::kSoftmax:
        LS_TRY(softmax_block(context, weights.softmax, attention_, softmax_layer++));
        break;
      case Mixer::kDelta: LS_TRY(delta_block(context, weights.delta, recurrent_, recurrent_layer++)); break;
      case Mixer::kLightning:
        LS_TRY(lightning_block(context, weights.lightning, recurrent_, recurrent_layer++));
        break;
    }
    norm.weight = weights.post_norm;
    LS_TRY(rms_norm(context.on, norm, "post_norm"));
    if (spec_.layers[i].mlp == Mlp::kDense) {
      LS_TRY(dense_block(context, weights.dense));
    } else {
      LS_TRY(moe_block(context, weights.moe));
    }
  }
  context.on.stream.set_layer(-1);
  norm.weight = weights_.final_norm;
  norm.out_scale = spec_.multipliers.logits;
  return rms_norm(context.on, norm, "final_norm");
}

// The normed rows whose logits are wanted: of all ranks, where they share the step's.
Status Decoder::pick_rows(const Launch& launch, const BlockContext& context) const {
  const Activations& act = context.act;
  if (launch.cut.shared()) {
    return shared_rows(context.on,
                       {.x = act.normed,
                        .rows = launch.logits_rows,
                        .places = launch.cp_logits_rows,
                        .out = act.gathered,
                        .scratch = act.workspace,
                        .num_logits_rows = launch.num_logits_rows,
                        .group = &options_.mesh->cp()},
                       "logits_rows");
  }
  return gather_rows(context.on,
                     {.x = act.normed,
                      .rows = launch.logits_rows,
                      .out = act.gathered,
                      .num_logits_rows = launch.num_logits_rows},
                     "logits_rows");
}

Status Decoder::head(const Launch& launch, const BlockContext& context) const {
  const Activations& act = context.act;
  if (act.logits.dim(0) == 0) return {};
  LS_TRY(pick_rows(launch, context));
  const bool parts = act.part_logits.dim(0) > 0;
  LS_TRY(linear(context.on,
                {.x = act.gathered,
                 .weight = weights_.head ? weights_.head : weights_.embedding,
                 .out = parts ? act.part_logits : act.logits,
                 .workspace = act.workspace,
                 .num_rows = launch.num_logits_rows,
                 .input = options_.input},
                "logits"));
  if (!parts) return {};
  return gather_columns(
      context.on,
      {.x = act.part_logits, .out = act.logits, .scratch = act.workspace, .group = &context.mesh->tp()},
      "logits_gather");
}

}  // namespace lockstep
