#include "attention/delta/delta_backend.h"

#include <algorithm>

#include "kernels/causal_conv/causal_conv.h"
#include "kernels/gated_delta/gated_delta.h"

namespace lockstep {
namespace {

constexpr const OpSpec* kOps[] = {&kCausalConvSpec, &kGatedDeltaSpec, &kCausalConvPartSpec,
                                  &kGatedDeltaPartSpec, &kHandOnStatesSpec};
constexpr ConsumerSpec kConsumer{.name = "gated_delta", .ops = kOps, .fields = kRecurrentUses};

}  // namespace

// Of one layer, for all sequences.
struct DeltaBackend::Args {
  CausalConvArgs conv;
  GatedDeltaArgs delta;
};

const ConsumerSpec& DeltaBackend::spec() const { return kConsumer; }

int64_t DeltaBackend::workspace_bytes(const RecurrentSize& size) const {
  return std::max(gated_delta_workspace_bytes(size.threads, size.key_dim, size.value_dim),
                  gated_delta_device_bytes(size.device_rows, size.key_heads, size.heads, size.key_dim));
}

Status DeltaBackend::prepare(const Binder& binder, PreparedStep& step) const {
  return bind_recurrent(binder, kConsumer, context_, step.add<RecurrentLaunch>(kConsumer));
}

DeltaBackend::Args DeltaBackend::args(const RecurrentLaunch& launch, const DeltaTensors& tensors,
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
                    .num_seqs = launch.num_seqs,
                    .input = tensors.input,
                    .query_len = static_cast<int32_t>(launch.query_len)}};
}

Status DeltaBackend::run(const PreparedStep& step, const RecurrentTensors& tensors, int32_t layer,
                         const Launcher& on) const {
  const auto* delta = std::get_if<DeltaTensors>(&tensors);
  if (delta == nullptr) return another_kind(kConsumer);
  const RecurrentLaunch& launch = *LS_TRY(step.get<RecurrentLaunch>(kConsumer));
  const StateView& state = storage_.state(layer);
  const Args whole = args(launch, *delta, state);
  if (!launch.cut.shared()) {
    LS_TRY(causal_conv(on, whole.conv, "conv"));
    return gated_delta(on, whole.delta, "delta");
  }
  return run_in_turn(launch, context_, state, on, [&](const SequenceHalf& half) -> Status {
    Args args = whole;
    args.conv.query_start_loc = args.delta.query_start_loc = half.query_start_loc;
    args.conv.state_read_slot = args.delta.state_read_slot = half.state_read_slot;
    args.conv.has_initial_state = args.delta.has_initial_state = half.has_initial_state;
    LS_TRY(causal_conv_part(on, args.conv, "conv"));
    return gated_delta_part(on, args.delta, "delta");
  });
}

}  // namespace lockstep
