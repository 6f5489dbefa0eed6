#include "kernels/gated_norm/gated_norm.h"

#include "kernels/common/checks.h"
#include "kernels/gated_norm/gated_norm_kernels.h"
#include "kernels/table.h"

namespace lockstep {

Status gated_norm(const Launcher& on, const GatedNormArgs& args, std::string_view stage) {
  LS_TRY(check_tensors("gated_norm",
                       {{"x", args.x}, {"z", args.z}, {"weight", args.weight}, {"out", args.out}}));
  LS_TRY(bind_dims(
      "gated_norm",
      {{"x", args.x, "THD"}, {"z", args.z, "THD"}, {"weight", args.weight, "D"}, {"out", args.out, "THD"}}));
  LS_TRY(check_num_rows("gated_norm", args.num_rows));
  if (args.out.elements() == 0) return {};
  if (on.table.gated_norm == nullptr) return missing_kernel("gated_norm", on.table);
  launch(on.stream, kGatedNormSpec, stage, on.table.gated_norm, args);
  return {};
}

}  // namespace lockstep
