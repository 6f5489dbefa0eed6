#include "kernels/moe/moe.h"

#include "kernels/common/checks.h"
#include "kernels/moe/moe_kernels.h"
#include "kernels/table.h"

namespace lockstep {
namespace {

Status check_weights(const MoeExpertsArgs& args) {
  const PackedWeight& gate_up = args.gate_up;
  if (gate_up.n != 2 * args.down.k) {
    return error(Code::kInvalidArgument, "moe_experts: gate_up has ", gate_up.n, " outputs; expected ",
                 2 * args.down.k, ", twice the inputs of down");
  }
  if (gate_up.dtype != args.down.dtype || !is_float_weight(gate_up.dtype)) {
    return error(Code::kInvalidArgument, "moe_experts: gate_up is ", gate_up.dtype, " and down ",
                 args.down.dtype, "; expected both f32, f16 or bf16");
  }
  if (gate_up.layout != args.down.layout) {
    return error(Code::kInvalidArgument,
                 "moe_experts: gate_up and down have different layouts; expected one");
  }
  if (args.input == MatmulInput::kBF16 && gate_up.dtype != DType::kBF16) {
    return error(Code::kInvalidArgument, "moe_experts: input is rounded to bf16 but the weights are ",
                 gate_up.dtype, "; expected bf16 weights, or MatmulInput::kF32");
  }
  return {};
}

Status check_range(const MoeExpertsArgs& args) {
  const int64_t held = args.gate_up.experts, experts = args.experts > 0 ? args.experts : held;
  if (args.first_expert >= 0 && args.first_expert <= experts - held) return {};
  return error(Code::kInvalidArgument, "moe_experts: holds experts ", args.first_expert, " to ",
               args.first_expert + held, "; expected experts within 0 to ", experts);
}

Status check_rows(const MoeExpertsArgs& args) {
  if (args.rows == MoeRows::kLiveFirst) return check_num_rows("moe_experts", args.num_rows);
  if (args.num_rows == nullptr) return {};
  return error(Code::kInvalidArgument,
               "moe_experts: num_rows is given for rows of several ranks; expected none: ids of -1 say which "
               "rows are pads");
}

Status check_experts(const MoeExpertsArgs& args) {
  const PackedWeight& gate_up = args.gate_up;
  const PackedWeight& down = args.down;
  const TensorView gate_up_view =
      dense_view(gate_up.data, gate_up.dtype, {gate_up.experts, gate_up.n, gate_up.k});
  const TensorView down_view = dense_view(down.data, down.dtype, {down.experts, down.n, down.k});
  LS_TRY(bind_dims("moe_experts", {{"x", args.x, "TE"},
                                   {"gate_up", gate_up_view, "XGE"},
                                   {"down", down_view, "XEF"},
                                   {"expert_ids", args.expert_ids, "Tk"},
                                   {"expert_weights", args.expert_weights, "Tk"},
                                   {"out", args.out, "TE"}}));
  LS_TRY(check_weights(args));
  LS_TRY(check_tensors("moe_experts", {{"x", args.x},
                                       {"expert_ids", args.expert_ids, DType::kI32},
                                       {"expert_weights", args.expert_weights},
                                       {"out", args.out}}));
  LS_TRY(check_range(args));
  LS_TRY(check_rows(args));
  return check_workspace("moe_experts", args.workspace, moe_workspace(args).bytes);
}

}  // namespace

MoeWorkspace moe_workspace(int64_t choices, int64_t experts, int64_t width, int64_t expert_width) {
  constexpr int64_t kLine = 64;
  MoeWorkspace at{};
  const auto take = [&at](int64_t elements) {
    const int64_t begin = at.bytes;
    at.bytes += round_up<int64_t>(elements * 4, kLine);
    return begin;
  };
  at.offsets = take(experts + 1);
  at.order = take(choices);
  at.inputs = take(choices * round_up<int64_t>(width, 32));
  at.activation = take(choices * round_up<int64_t>(expert_width, 32));
  at.products = take(choices * width);
  return at;
}

MoeWorkspace moe_workspace(const MoeExpertsArgs& args) {
  return moe_workspace(args.expert_ids.elements(), args.gate_up.experts, args.gate_up.k, args.down.k);
}

int64_t moe_workspace_bytes(int64_t rows, int64_t choices, int64_t experts, int64_t width,
                            int64_t expert_width) {
  return moe_workspace(rows * choices, experts, width, expert_width).bytes;
}

Status moe_route(const Launcher& on, const MoeRouteArgs& args, std::string_view stage) {
  LS_TRY(bind_dims("moe_route", {{"logits", args.logits, "TX"},
                                 {"bias", args.bias, "X"},
                                 {"expert_ids", args.expert_ids, "Tk"},
                                 {"expert_weights", args.expert_weights, "Tk"}}));
  LS_TRY(check_tensors("moe_route", {{"logits", args.logits},
                                     {"bias", args.bias, DType::kF32, Presence::kOptional},
                                     {"expert_ids", args.expert_ids, DType::kI32},
                                     {"expert_weights", args.expert_weights}}));
  LS_TRY(check_num_rows("moe_route", args.num_rows));
  if (args.expert_ids.dim(1) < 1 || args.expert_ids.dim(1) > args.logits.dim(1)) {
    return error(Code::kInvalidArgument, "moe_route: expert_ids ", args.expert_ids.shape, " asks for ",
                 args.expert_ids.dim(1), " experts a row; expected 1 to ", args.logits.dim(1),
                 " as in logits ", args.logits.shape);
  }
  if (args.bias && args.scoring != MoeScoring::kSigmoid) {
    return error(Code::kInvalidArgument,
                 "moe_route: a bias is given with softmax scores; expected none: it is added to sigmoids");
  }
  if (args.logits.dim(0) == 0) return {};
  if (on.table.moe_route == nullptr) return missing_kernel("moe_route", on.table);
  launch(on.stream, kMoeRouteSpec, stage, on.table.moe_route, args);
  return {};
}

Status moe_experts(const Launcher& on, const MoeExpertsArgs& args, std::string_view stage) {
  LS_TRY(check_experts(args));
  if (args.x.dim(0) == 0) return {};
  const KernelTable& table = on.table;
  if (table.moe_gate_up == nullptr) return missing_kernel("moe_gate_up", table);
  if (table.moe_down == nullptr) return missing_kernel("moe_down", table);
  if (table.moe_combine == nullptr) return missing_kernel("moe_combine", table);
  if (table.moe_sort != nullptr) launch(on.stream, kMoeSortSpec, stage, table.moe_sort, args);
  if (table.moe_prepare != nullptr) launch(on.stream, kMoePrepareSpec, stage, table.moe_prepare, args);
  launch(on.stream, kMoeGateUpSpec, stage, table.moe_gate_up, args);
  launch(on.stream, kMoeDownSpec, stage, table.moe_down, args);
  launch(on.stream, kMoeCombineSpec, stage, table.moe_combine, args);
  return {};
}

}  // namespace lockstep
