// ContextGroup: the ranks that share the rows of a step, as a backend knows them, and what it exchanges with
// them so that the caches of all ranks stay the same.
#pragma once

#include "attention/storage.h"
#include "comm/mesh.h"
#include "contract/binder.h"
#include "kernels/common/launcher.h"

namespace lockstep {

// By default a rank is alone.
struct ContextGroup {
  Communicator* group = nullptr;  // borrowed; null where only sizes are asked for
  int32_t ranks = 1;              // of the group
  int64_t max_rows = 0;           // padded rows of a step, on one rank
};

// That of a mesh; of a rank that is alone where `mesh` is null.
inline ContextGroup context_group(Mesh* mesh, int64_t max_rows) {
  if (mesh == nullptr || mesh->shape().cp == 1) return {};
  return {.group = &mesh->cp(), .ranks = mesh->shape().cp, .max_rows = max_rows};
}

// How a plan's rows are shared. A launch keeps it: both numbers are part of the graph's key.
struct ContextCut {
  int32_t ranks = 1;  // 1: every rank runs all rows
  int32_t rank = 0;

  bool shared() const { return ranks > 1; }
};
// What the plan says, held to the group that is there. `consumer` declares cp_ranks and cp_rank as values.
// Errors: as Binder::value; kInternal (L2) for a plan of other ranks than the group's, or of another rank.
Result<ContextCut> bind_cut(const Binder& binder, const ConsumerSpec& consumer, const ContextGroup& context);

// out [N, 2, K, D]: keys and values of the rows of every rank, in order of ranks; N = ranks * T. Pad rows are
// zero. Collective.
struct GatherKvArgs {
  TensorView k;        // [T, K, D] f32, any stride of T and K
  TensorView v;        // [T, K, D] f32, any stride of T and K
  TensorView out;      // [N, 2, K, D] f32
  TensorView scratch;  // [T, 2, K, D] f32
  const LiveRows* num_rows = nullptr;
  Communicator* group = nullptr;
  CallSite at;  // of the launch, which sets it
};

// The states of the slots are afterwards on every rank what they are on rank `root` of the group. Collective:
// one broadcast per slot and kind of state.
struct HandOnStatesArgs {
  TensorView conv;    // [N, C, W - 1] f32, any stride of N; without elements where nothing is convolved
  TensorView memory;  // [N, G, D, E] f32, any stride of N
  TensorView slots;   // [S] i32, the same on every rank; those outside [0, N) are passed over
  Communicator* group = nullptr;
  int64_t root = 0;
  CallSite at;  // of the launch, which sets it
};

inline constexpr OpArg kGatherKvArgs[] = {
    {LS_ARG(GatherKvArgs, k), .access = Access::kRead, .dims = "TKD", .rows = RowsTouched::kLive,
     .any_stride = true},
    {LS_ARG(GatherKvArgs, v), .access = Access::kRead, .dims = "TKD", .rows = RowsTouched::kLive,
     .any_stride = true},
    {LS_ARG(GatherKvArgs, out), .access = Access::kWrite, .dims = "N2KD"},
    {LS_ARG(GatherKvArgs, scratch), .access = Access::kWrite, .dims = "T2KD"},
    {LS_ARG(GatherKvArgs, num_rows), .rows = RowsTouched::kNone},
    {LS_ARG(GatherKvArgs, group), .rows = RowsTouched::kNone},
    {LS_ARG(GatherKvArgs, at), .rows = RowsTouched::kNone},
};
inline constexpr OpSpec kGatherKvSpec{
    .name = "gather_kv", .args = kGatherKvArgs, .args_bytes = sizeof(GatherKvArgs), .collective = true};

inline constexpr OpArg kHandOnStatesArgs[] = {
    {LS_ARG(HandOnStatesArgs, conv), .access = Access::kReadWrite, .dims = "NCV", .rows = RowsTouched::kOwned,
     .pad = PadRows::kUntouched, .outer_stride = true},
    {LS_ARG(HandOnStatesArgs, memory), .access = Access::kReadWrite, .dims = "NGDE",
     .rows = RowsTouched::kOwned, .pad = PadRows::kUntouched, .outer_stride = true},
    {LS_ARG(HandOnStatesArgs, slots), .access = Access::kRead, .dims = "S", .rows = RowsTouched::kLive},
    {LS_ARG(HandOnStatesArgs, group), .rows = RowsTouched::kNone},
    {LS_ARG(HandOnStatesArgs, root), .rows = RowsTouched::kNone},
    {LS_ARG(HandOnStatesArgs, at), .rows = RowsTouched::kNone},
};
inline constexpr OpSpec kHandOnStatesSpec{.name = "hand_on_states",
                                          .args = kHandOnStatesArgs,
                                          .args_bytes = sizeof(HandOnStatesArgs),
                                          .collective = true};

// Errors of both: kInvalidArgument for shapes and dtypes that do not fit. What fails while ranks exchange
// closes the group; the launch leaves NaN behind then. Cost: one launch each.
Status gather_kv(const Launcher& on, const GatherKvArgs& args, std::string_view stage);
Status hand_on_states(const Launcher& on, const HandOnStatesArgs& args, std::string_view stage);

}  // namespace lockstep
