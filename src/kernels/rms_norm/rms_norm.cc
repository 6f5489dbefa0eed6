#include "kernels/rms_norm/rms_norm.h"

#include "kernels/common/checks.h"
#include "kernels/table.h"

namespace lockstep {

Status rms_norm(const Launcher& on, const RmsNormArgs& args, std::string_view stage) {
  LS_TRY(bind_dims("rms_norm", {{"x", args.x, "TE"},
                                {"weight", args.weight, "E"},
                                {"residual", args.residual, "TE"},
                                {"out", args.out, "TE"}}));
  LS_TRY(check_tensors("rms_norm", {{"x", args.x},
                                    {"weight", args.weight},
                                    {"residual", args.residual, DType::kF32, Presence::kOptional},
                                    {"out", args.out}}));
  LS_TRY(check_num_rows("rms_norm", args.num_rows));
  if (args.out.elements() == 0) return {};
  if (on.table.rms_norm == nullptr) return missing_kernel("rms_norm", on.table);
  launch(on.stream, kRmsNormSpec, stage, on.table.rms_norm, args);
  return {};
}

}  // namespace lockstep
