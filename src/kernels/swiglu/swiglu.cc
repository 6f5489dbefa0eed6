#include "kernels/swiglu/swiglu.h"

#include "kernels/common/checks.h"
#include "kernels/table.h"

namespace lockstep {

Status swiglu(const Launcher& on, const SwigluArgs& args, std::string_view stage) {
  LS_TRY(bind_dims("swiglu", {{"gate_up", args.gate_up, "TG"}, {"out", args.out, "TF"}}));
  if (args.gate_up.dim(1) != 2 * args.out.dim(1)) {
    return error(Code::kInvalidArgument, "swiglu: gate_up has shape ", args.gate_up.shape, "; expected [",
                 args.out.dim(0), ", ", 2 * args.out.dim(1), "], twice the width of out ", args.out.shape);
  }
  LS_TRY(check_tensors("swiglu", {{"gate_up", args.gate_up}, {"out", args.out}}));
  LS_TRY(check_num_rows("swiglu", args.num_rows));
  if (args.out.dim(0) == 0) return {};
  if (on.table.swiglu == nullptr) return missing_kernel("swiglu", on.table);
  launch(on.stream, kSwigluSpec, stage, on.table.swiglu, args);
  return {};
}

}  // namespace lockstep
