#include "kernels/linear/linear.h"

#include "kernels/common/checks.h"
#include "kernels/linear/linear_kernels.h"
#include "kernels/table.h"

namespace lockstep {
namespace {

Status check_weight(const LinearArgs& args) {
  const PackedWeight& weight = args.weight;
  if (weight.experts != 1) {
    return error(Code::kInvalidArgument, "linear: weight holds ", weight.experts,
                 " matrices; expected 1, or use moe_experts");
  }
  if (!is_float_weight(weight.dtype)) {
    return error(Code::kInvalidArgument, "linear: weight is ", weight.dtype, "; expected f32, f16 or bf16");
  }
  if (args.input == MatmulInput::kBF16 && weight.dtype != DType::kBF16) {
    return error(Code::kInvalidArgument, "linear: input is rounded to bf16 but weight is ", weight.dtype,
                 "; expected a bf16 weight, or MatmulInput::kF32");
  }
  return {};
}

}  // namespace

int64_t linear_workspace_bytes(int64_t rows, int64_t inputs) {
  return rows * round_up<int64_t>(inputs, 32) * static_cast<int64_t>(sizeof(float));
}

Status linear(const Launcher& on, const LinearArgs& args, std::string_view stage) {
  const TensorView weight = dense_view(args.weight.data, args.weight.dtype, {args.weight.n, args.weight.k});
  LS_TRY(bind_dims("linear", {{"x", args.x, "TK"}, {"weight", weight, "NK"}, {"out", args.out, "TN"}}));
  LS_TRY(check_tensors("linear", {{"x", args.x}, {"out", args.out}}));
  LS_TRY(check_weight(args));
  LS_TRY(check_num_rows("linear", args.num_rows));
  LS_TRY(check_workspace("linear", args.workspace, linear_workspace_bytes(args.x.dim(0), args.x.dim(1))));
  if (args.x.dim(0) == 0) return {};
  if (on.table.linear == nullptr) return missing_kernel("linear", on.table);
  if (on.table.linear_prepare != nullptr && !prepares_own_inputs(args)) {
    launch(on.stream, kLinearPrepareSpec, stage, on.table.linear_prepare, args);
  }
  launch(on.stream, kLinearSpec, stage, on.table.linear, args);
  return {};
}

}  // namespace lockstep
