#include "attention/delta/delta_backend.h"

#include "kernels/causal_conv/causal_conv.h"
#include "kernels/gated_delta/gated_delta.h"

namespace lockstep {
namespace {

constexpr const OpSpec* kOps[] = {&kCausalConvSpec, &kGatedDeltaSpec, &kCausalConvPartSpec,
                                  &kGatedDeltaPartSpec, &kHandOnStatesSpec};
constexpr FieldUse kUses[] = {
    {.field = FieldId::query_start_loc, .argument = "*.query_start_loc"},
    {.field = FieldId::state_read_slot, .argument = "*.state_read_slot"},
    {.field = FieldId::state_write_slots, .argument = "*.state_write_slots"},
    {.field = FieldId::has_initial_state, .argument = "*.has_initial_state"},
    {.field = FieldId::num_rows, .argument = "*.num_rows"},
    {.field = FieldId::num_seqs, .argument = "*.num_seqs"},
    {.field = FieldId::state_read_slot, .argument = "hand_on_states.slots"},
    {.field = FieldId::num_seqs, .feed = Feed::kValue, .argument = {}},
    {.field = FieldId::cp_ranks, .feed = Feed::kValue, .argument = {}},
    {.field = FieldId::cp_rank, .feed = Feed::kValue, .argument = {}},
};
constexpr ConsumerSpec kConsumer{.name = "gated_delta", .ops = kOps, .fields = kUses};

}  // namespace

// The plan's fields on the device, for all layers.
struct DeltaBackend::Launch {
  FieldView query_start_loc;    // [S + 1]
  FieldView state_read_slot;    // [S]
  FieldView state_write_slots;  // [T]
  FieldView has_initial_state;  // [S]
  const LiveRows* num_rows = nullptr;
  const LiveSeqs* num_seqs = nullptr;
  ContextCut cut;
  int64_t whole = 0;  // sequences whose rows are shared: early chunks first, then as many late ones
};

// Of one layer, for all sequences.
struct DeltaBackend::Args {
  CausalConvArgs conv;
  GatedDeltaArgs delta;
};

const ConsumerSpec& DeltaBackend::spec() const { return kConsumer; }

int64_t DeltaBackend::workspace_bytes(int threads, int32_t key_dim, int32_t value_dim) const {
  return gated_delta_workspace_bytes(threads, key_dim, value_dim);
}

Status DeltaBackend::prepare(const Binder& binder, PreparedStep& step) const {
  Launch& launch = step.add<Launch>(kConsumer);
  if (context_.ranks > 1) launch.cut = LS_TRY(bind_cut(binder, kConsumer, context_));
  if (launch.cut.shared()) {
    const LiveSeqs halves = LS_TRY(binder.value(kConsumer, field::num_seqs));
    launch.whole = halves.get() / 2;
  }
  return binder.bind(kConsumer, {{FieldId::query_start_loc, launch.query_start_loc},
                                 {FieldId::state_read_slot, launch.state_read_slot},
                                 {FieldId::state_write_slots, launch.state_write_slots},
                                 {FieldId::has_initial_state, launch.has_initial_state},
                                 {field::num_rows, launch.num_rows},
                                 {field::num_seqs, launch.num_seqs}});
}

DeltaBackend::Args DeltaBackend::args(const Launch& launch, const DeltaTensors& tensors,
                                      const StateView& state) const {
  const int64_t value_heads = state.memory.dim(1), key_dim = state.memory.dim(2),
                value_dim = state.memory.dim(3);
  const int64_t key_width = (tensors.mixed.dim(1) - value_heads * value_dim) / 2;
  const int64_t key_heads = key_width / key_dim;
  return {.conv = {.x = tensors.qkv,
                   .weight = tensors.conv,
                   .state = state.conv,
                   .query_start_loc = launch.query_start_loc,
                   .state_read_slot = launch.state_read_slot,
                   .state_write_slots = launch.state_write_slots,
                   .has_initial_state = launch.has_initial_state,
                   .out = tensors.mixed,
                   .num_rows = launch.num_rows,
                   .num_seqs = launch.num_seqs},
          .delta = {.q = tensors.mixed.heads(0, key_heads, key_dim, key_dim),
                    .k = tensors.mixed.heads(key_width, key_heads, key_dim, key_dim),
                    .v = tensors.mixed.heads(2 * key_width, value_heads, value_dim, value_dim),
                    .b = tensors.b,
                    .a = tensors.a,
                    .a_log = tensors.a_log,
                    .dt_bias = tensors.dt_bias,
                    .state = state.memory,
                    .query_start_loc = launch.query_start_loc,
                    .state_read_slot = launch.state_read_slot,
                    .state_write_slots = launch.state_write_slots,
                    .has_initial_state = launch.has_initial_state,
                    .out = tensors.out,
                    .workspace = tensors.workspace,
                    .num_rows = launch.num_rows,
                    .num_seqs = launch.num_seqs}};
}

Status DeltaBackend::run(const PreparedStep& step, const RecurrentTensors& tensors, int32_t layer,
                         const Launcher& on) const {
  const Launch& launch = *LS_TRY(step.get<Launch>(kConsumer));
  const auto* delta = std::get_if<DeltaTensors>(&tensors);
  if (delta == nullptr) return another_kind(kConsumer);
  const Args whole = args(launch, *delta, storage_.state(layer));
  if (launch.cut.shared()) return run_in_turn(launch, whole, on);
  LS_TRY(causal_conv(on, whole.conv, "conv"));
  return gated_delta(on, whole.delta, "delta");
}

// Of all sequences the early chunks, or the late ones. num_seqs counts both, and an op holds it to what its
// views have.
Status DeltaBackend::run_half(const Launch& launch, const Args& whole, bool late, const Launcher& on) const {
  const int64_t first = late ? launch.whole : 0;
  Args half = whole;
  half.conv.query_start_loc = half.delta.query_start_loc =
      launch.query_start_loc.tensor().rows(first, launch.whole + 1);
  half.conv.state_read_slot = half.delta.state_read_slot =
      launch.state_read_slot.tensor().rows(first, launch.whole);
  half.conv.has_initial_state = half.delta.has_initial_state =
      launch.has_initial_state.tensor().rows(first, launch.whole);
  LS_TRY(causal_conv_part(on, half.conv, "conv"));
  return gated_delta_part(on, half.delta, "delta");
}

// A chunk begins where the one before has ended, on whichever rank. After the last every rank has the states
// of all sequences.
Status DeltaBackend::run_in_turn(const Launch& launch, const Args& whole, const Launcher& on) const {
  const int32_t ranks = launch.cut.ranks;
  for (int32_t chunk = 0; chunk < 2 * ranks; ++chunk) {
    const bool late = chunk >= ranks;
    const int32_t owner = late ? 2 * ranks - 1 - chunk : chunk;
    if (owner == launch.cut.rank) LS_TRY(run_half(launch, whole, late, on));
    LS_TRY(hand_on_states(on,
                          {.conv = whole.conv.state,
                           .memory = whole.delta.state,
                           .slots = launch.state_read_slot.tensor().rows(0, launch.whole),
                           .group = context_.group,
                           .root = owner},
                          "hand_on"));
  }
  return {};
}

}  // namespace lockstep
