#include "attention/context/context_group.h"

#include <cstring>

#include "base/check.h"
#include "base/fault.h"
#include "comm/collectives.h"
#include "kernels/common/checks.h"
#include "kernels/common/live_rows.h"

namespace lockstep {
namespace {

std::span<std::byte> bytes_of(const TensorView& view) {
  return {static_cast<std::byte*>(view.data), static_cast<size_t>(view.bytes())};
}

// After a failed exchange: NaN.
void spoil(std::span<std::byte> bytes) {
  if (!bytes.empty()) std::memset(bytes.data(), 0xFF, bytes.size());
}

// Rows of x into plane `plane` of the rows of `to`; pad rows become zero.
void pack_rows(const TensorView& x, int64_t plane, int64_t live, const TensorView& to) {
  const int64_t heads = x.dim(1), dim = x.dim(2);
  for (int64_t t = 0; t < x.dim(0); ++t) {
    float* row = to.as<float>() + (t * 2 + plane) * heads * dim;
    if (t >= live) {
      std::memset(row, 0, static_cast<size_t>(heads * dim) * sizeof(float));
      continue;
    }
    for (int64_t h = 0; h < heads; ++h) {
      std::memcpy(row + h * dim, x.as<const float>() + t * x.stride(0) + h * x.stride(1),
                  static_cast<size_t>(dim) * sizeof(float));
    }
  }
}

void run_gather_kv(const GatherKvArgs& args, Worker) {
  const int64_t live = live_rows(args.num_rows, args.k.dim(0));
  pack_rows(args.k, 0, live, args.scratch);
  pack_rows(args.v, 1, live, args.scratch);
  const Status done =
      args.group->all_gather(bytes_of(args.scratch), bytes_of(args.out), DType::kF32, args.at);
  if (!done.ok()) spoil(bytes_of(args.out));
}

// One slot of states that lie `stride(0)` apart.
std::span<std::byte> slot_of(const TensorView& states, int64_t slot) {
  int64_t elements = 1;
  for (int64_t d = 1; d < states.shape.rank; ++d) elements *= states.dim(d);
  return {reinterpret_cast<std::byte*>(states.as<float>() + slot * states.stride(0)),
          static_cast<size_t>(elements) * sizeof(float)};
}

void run_hand_on_states(const HandOnStatesArgs& args, Worker) {
  for (int64_t s = 0; s < args.slots.dim(0); ++s) {
    const int64_t slot = args.slots.as<const int32_t>()[s];
    if (slot < 0 || slot >= args.conv.dim(0) || slot >= args.memory.dim(0)) continue;
    for (const TensorView* states : {&args.conv, &args.memory}) {
      const std::span<std::byte> bytes = slot_of(*states, slot);
      if (bytes.empty()) continue;
      const Status done = args.group->broadcast(bytes, static_cast<int32_t>(args.root), DType::kF32, args.at);
      if (!done.ok()) spoil(bytes);
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
