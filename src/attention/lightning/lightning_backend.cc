#include "attention/lightning/lightning_backend.h"

#include <algorithm>

#include "attention/recurrent/recurrent_launch.h"
#include "kernels/lightning/lightning.h"

namespace lockstep {
namespace {

constexpr const OpSpec* kOps[] = {&kLightningSpec, &kLightningPartSpec, &kHandOnStatesSpec};
constexpr ConsumerSpec kConsumer{.name = "lightning", .ops = kOps, .fields = kRecurrentUses};

}  // namespace

const ConsumerSpec& LightningBackend::spec() const { return kConsumer; }

int64_t LightningBackend::workspace_bytes(const RecurrentSize& size) const {
  return std::max(lightning_workspace_bytes(size.threads, size.key_dim, size.value_dim),
                  lightning_device_bytes(size.device_rows, size.key_heads, size.heads, size.key_dim));
}

Status LightningBackend::prepare(const Binder& binder, PreparedStep& step) const {
  return bind_recurrent(binder, kConsumer, context_, step.add<RecurrentLaunch>(kConsumer));
}

Status LightningBackend::run(const PreparedStep& step, const RecurrentTensors& tensors, int32_t layer,
                             const Launcher& on) const {
  const auto* given = std::get_if<LightningTensors>(&tensors);
  if (given == nullptr) return another_kind(kConsumer);
  const RecurrentLaunch& launch = *LS_TRY(step.get<RecurrentLaunch>(kConsumer));
  const StateView& state = storage_.state(layer);
  const LightningArgs whole{.q = given->q,
                            .k = given->k,
                            .v = given->v,
                            .decay = given->decay,
                            .state = state.memory,
                            .query_start_loc = launch.query_start_loc,
                            .state_read_slot = launch.state_read_slot,
                            .state_write_slots = launch.state_write_slots,
                            .has_initial_state = launch.has_initial_state,
                            .out = given->out,
                            .workspace = given->workspace,
                            .num_rows = launch.num_rows,
                            .num_seqs = launch.num_seqs,
                            .scale = given->scale,
                            .input = given->input,
                            .query_len = static_cast<int32_t>(launch.query_len)};
  if (!launch.cut.shared()) return lightning(on, whole, "lightning");
  return run_in_turn(launch, context_, state, on, [&](const SequenceHalf& half) {
    LightningArgs args = whole;
    args.query_start_loc = half.query_start_loc;
    args.state_read_slot = half.state_read_slot;
    args.has_initial_state = half.has_initial_state;
    return lightning_part(on, args, "lightning");
  });
}

}  // namespace lockstep
