#include "kernels/qk_norm_rope/qk_norm_rope.h"

#include "kernels/common/checks.h"
#include "kernels/table.h"

namespace lockstep {

Status rope_angles(const Launcher& on, const RopeAnglesArgs& args, std::string_view stage) {
  LS_TRY(bind_dims("rope_angles", {{"positions", args.positions, "T"},
                                   {"inv_freq", args.inv_freq, "R"},
                                   {"cos_sin", args.cos_sin, "TC"}}));
  LS_TRY(check_tensors(
      "rope_angles",
      {{"positions", args.positions, DType::kI32}, {"inv_freq", args.inv_freq}, {"cos_sin", args.cos_sin}}));
  if (args.cos_sin.dim(1) != 2 * args.inv_freq.dim(0)) {
    return error(Code::kInvalidArgument, "rope_angles: cos_sin has shape ", args.cos_sin.shape,
                 "; expected 2R = ", 2 * args.inv_freq.dim(0), " columns for inv_freq ", args.inv_freq.shape);
  }
  LS_TRY(check_num_rows("rope_angles", args.num_rows));
  if (args.cos_sin.elements() == 0) return {};
  if (on.table.rope_angles == nullptr) return missing_kernel("rope_angles", on.table);
  launch(on.stream, kRopeAnglesSpec, stage, on.table.rope_angles, args);
  return {};
}

Status qk_norm_rope(const Launcher& on, const QkNormRopeArgs& args, std::string_view stage) {
  LS_TRY(bind_dims("qk_norm_rope", {{"x", args.x, "THD"},
                                    {"weight", args.weight, "D"},
                                    {"cos_sin", args.cos_sin, "TC"},
                                    {"out", args.out, "THD"}}));
  LS_TRY(check_tensors("qk_norm_rope", {{"x", args.x},
                                        {"weight", args.weight, DType::kF32, Presence::kOptional},
                                        {"cos_sin", args.cos_sin, DType::kF32, Presence::kOptional},
                                        {"out", args.out}}));
  const int64_t rotary = args.cos_sin ? args.cos_sin.dim(1) : 0;
  if (rotary % 2 != 0 || rotary > args.x.dim(2)) {
    return error(Code::kInvalidArgument, "qk_norm_rope: cos_sin has shape ", args.cos_sin.shape,
                 "; expected an even number of columns, at most D = ", args.x.dim(2), " as in x ",
                 args.x.shape);
  }
  LS_TRY(check_num_rows("qk_norm_rope", args.num_rows));
  if (args.out.elements() == 0) return {};
  if (on.table.qk_norm_rope == nullptr) return missing_kernel("qk_norm_rope", on.table);
  launch(on.stream, kQkNormRopeSpec, stage, on.table.qk_norm_rope, args);
  return {};
}

}  // namespace lockstep
