#include "attention/context/context_group.h"

#include "base/check.h"
#include "base/fault.h"
#include "comm/collectives.h"
#include "comm/launched.h"
#include "kernels/common/checks.h"

namespace lockstep {
namespace {

std::span<std::byte> bytes_of(const TensorView& view) {
  return {static_cast<std::byte*>(view.data), static_cast<size_t>(view.bytes())};
}

void run_gather_kv(const GatherKvArgs& args, Worker worker) {
  const Launched launch(*args.group, worker, args.at);
  launch.run(&RankKernels::pack_kv,
             {.k = args.k, .v = args.v, .to = args.scratch.as<float>(), .num_rows = args.num_rows});
  const Status done = launch.all_gather(bytes_of(args.scratch), bytes_of(args.out), DType::kF32);
  if (!done.ok()) launch.spoil(bytes_of(args.out));
}

// One slot of states that lie `stride(0)` apart.
std::span<std::byte> slot_of(const TensorView& states, int64_t slot) {
  int64_t elements = 1;
  for (int64_t d = 1; d < states.shape.rank; ++d) elements *= states.dim(d);
  return {reinterpret_cast<std::byte*>(states.as<float>() + slot * states.stride(0)),
          static_cast<size_t>(elements) * sizeof(float)};
}

void run_hand_on_states(const HandOnStatesArgs& args, Worker worker) {
  const Launched launch(*args.group, worker, args.at);
  for (int64_t s = 0; s < args.slots.dim(0); ++s) {
    const int64_t slot = args.slots.as<const int32_t>()[s];
    if (slot < 0 || slot >= args.conv.dim(0) || slot >= args.memory.dim(0)) continue;
    for (const TensorView* states : {&args.conv, &args.memory}) {
      const std::span<std::byte> bytes = slot_of(*states, slot);
      if (bytes.empty()) continue;
      const Status done = launch.broadcast(bytes, static_cast<int32_t>(args.root), DType::kF32);
      if (!done.ok()) launch.spoil(bytes);
    }
  }
}

Status refuse(const Binder& binder, const ConsumerSpec& consumer, std::string_view field,
              std::string expected, std::string found) {
  return broken({.check = "L2",
                 .moment = Moment::kBind,
                 .consumer = std::string(consumer.name),
                 .field = std::string(field),
                 .row = -1,
                 .rank = 0,
                 .step = binder.step(),
                 .expected = std::move(expected),
                 .found = std::move(found)});
}

}  // namespace

Result<ContextCut> bind_cut(const Binder& binder, const ConsumerSpec& consumer, const ContextGroup& context) {
  ContextCut cut;
  cut.ranks = LS_TRY(binder.value(consumer, field::cp_ranks));
  if (!cut.shared()) return cut;
  cut.rank = LS_TRY(binder.value(consumer, field::cp_rank));
  if (context.group == nullptr || cut.ranks != context.group->size()) {
    const int32_t ranks = context.group == nullptr ? 1 : context.group->size();
    LS_TRY(refuse(binder, consumer, "cp_ranks", concat("rows shared by ", ranks, ", the ranks of the group"),
                  concat(cut.ranks)));
  }
  if (context.group != nullptr && cut.rank != context.group->rank()) {
    LS_TRY(refuse(binder, consumer, "cp_rank", concat(context.group->rank(), ", the rank that runs the plan"),
                  concat(cut.rank)));
  }
  return cut;
}

Status gather_kv(const Launcher& on, const GatherKvArgs& args, std::string_view stage) {
  LS_CHECK(args.group != nullptr, "gather_kv in no group");
  LS_TRY(check_tensors("gather_kv",
                       {{"k", args.k}, {"v", args.v}, {"out", args.out}, {"scratch", args.scratch}}));
  LS_TRY(bind_dims("gather_kv", {{"k", args.k, "TKD"},
                                 {"v", args.v, "TKD"},
                                 {"out", args.out, "NPKD"},
                                 {"scratch", args.scratch, "TPKD"}}));
  LS_TRY(check_num_rows("gather_kv", args.num_rows));
  if (args.out.dim(1) != 2 || args.out.dim(0) != args.k.dim(0) * args.group->size()) {
    return error(Code::kInvalidArgument, "gather_kv: out has shape ", args.out.shape, "; expected [",
                 args.k.dim(0) * args.group->size(), ", 2, K, D], the rows of ", args.group->size(),
                 " ranks");
  }
  launch_collective(on, kGatherKvSpec, stage, run_gather_kv, args);
  return {};
}

Status hand_on_states(const Launcher& on, const HandOnStatesArgs& args, std::string_view stage) {
  LS_CHECK(args.group != nullptr, "hand_on_states in no group");
  LS_TRY(check_tensors("hand_on_states",
                       {{"conv", args.conv}, {"memory", args.memory}, {"slots", args.slots, DType::kI32}}));
  LS_TRY(
      bind_dims("hand_on_states",
                {{"conv", args.conv, "NCV"}, {"memory", args.memory, "NGDE"}, {"slots", args.slots, "S"}}));
  if (args.slots.dim(0) == 0) return {};
  launch_collective(on, kHandOnStatesSpec, stage, run_hand_on_states, args);
  return {};
}

}  // namespace lockstep
