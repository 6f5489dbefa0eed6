#include "attention/delta/delta_backend.h"

#include "kernels/causal_conv/causal_conv.h"
#include "kernels/gated_delta/gated_delta.h"

namespace lockstep {
namespace {

constexpr const OpSpec* kOps[] = {&kCausalConvSpec, &kGatedDeltaSpec};
constexpr FieldUse kUses[] = {
    {.field = FieldId::query_start_loc, .argument = "*.query_start_loc"},
    {.field = FieldId::state_read_slot, .argument = "*.state_read_slot"},
    {.field = FieldId::state_write_slots, .argument = "*.state_write_slots"},
    {.field = FieldId::has_initial_state, .argument = "*.has_initial_state"},
    {.field = FieldId::num_rows, .argument = "*.num_rows"},
    {.field = FieldId::num_seqs, .argument = "*.num_seqs"},
};
constexpr ConsumerSpec kConsumer{.name = "gated_delta", .ops = kOps, .fields = kUses};

// The plan's fields on the device, for all layers.
struct DeltaLaunch {
  FieldView query_start_loc;    // [S + 1]
  FieldView state_read_slot;    // [S]
  FieldView state_write_slots;  // [T]
  FieldView has_initial_state;  // [S]
  const LiveRows* num_rows = nullptr;
  const LiveSeqs* num_seqs = nullptr;
};

}  // namespace

const ConsumerSpec& DeltaBackend::spec() const { return kConsumer; }

int64_t DeltaBackend::workspace_bytes(int threads, int32_t key_dim, int32_t value_dim) const {
  return gated_delta_workspace_bytes(threads, key_dim, value_dim);
}

Status DeltaBackend::prepare(const Binder& binder, PreparedStep& step) const {
  DeltaLaunch& launch = step.add<DeltaLaunch>(kConsumer);
  return binder.bind(kConsumer, {{FieldId::query_start_loc, launch.query_start_loc},
                                 {FieldId::state_read_slot, launch.state_read_slot},
                                 {FieldId::state_write_slots, launch.state_write_slots},
                                 {FieldId::has_initial_state, launch.has_initial_state},
                                 {field::num_rows, launch.num_rows},
                                 {field::num_seqs, launch.num_seqs}});
}

Status DeltaBackend::run(const PreparedStep& step, const RecurrentTensors& tensors, int32_t layer,
                         const Launcher& on) const {
  const DeltaLaunch& launch = *LS_TRY(step.get<DeltaLaunch>(kConsumer));
  const StateView& state = storage_.state(layer);
  LS_TRY(causal_conv(on,
                     {.x = tensors.qkv,
                      .weight = tensors.conv,
                      .state = state.conv,
                      .query_start_loc = launch.query_start_loc,
                      .state_read_slot = launch.state_read_slot,
                      .state_write_slots = launch.state_write_slots,
                      .has_initial_state = launch.has_initial_state,
                      .out = tensors.mixed,
                      .num_rows = launch.num_rows,
                      .num_seqs = launch.num_seqs},
                     "conv"));
  const int64_t value_heads = state.delta.dim(1), key_dim = state.delta.dim(2),
                value_dim = state.delta.dim(3);
  const int64_t key_width = (tensors.mixed.dim(1) - value_heads * value_dim) / 2;
  const int64_t key_heads = key_width / key_dim;
  return gated_delta(on,
                     {.q = tensors.mixed.heads(0, key_heads, key_dim, key_dim),
                      .k = tensors.mixed.heads(key_width, key_heads, key_dim, key_dim),
                      .v = tensors.mixed.heads(2 * key_width, value_heads, value_dim, value_dim),
                      .b = tensors.b,
                      .a = tensors.a,
                      .a_log = tensors.a_log,
                      .dt_bias = tensors.dt_bias,
                      .state = state.delta,
                      .query_start_loc = launch.query_start_loc,
                      .state_read_slot = launch.state_read_slot,
                      .state_write_slots = launch.state_write_slots,
                      .has_initial_state = launch.has_initial_state,
                      .out = tensors.out,
                      .workspace = tensors.workspace,
                      .num_rows = launch.num_rows,
                      .num_seqs = launch.num_seqs},
                     "delta");
}

}  // namespace lockstep
