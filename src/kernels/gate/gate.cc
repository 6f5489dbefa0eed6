#include "kernels/gate/gate.h"

#include "kernels/common/checks.h"
#include "kernels/table.h"

namespace lockstep {

Status sigmoid_gate(const Launcher& on, const SigmoidGateArgs& args, std::string_view stage) {
  LS_TRY(bind_dims("sigmoid_gate",
                   {{"x", args.x, "THD"}, {"gate", args.gate, "THD"}, {"out", args.out, "THD"}}));
  LS_TRY(check_tensors("sigmoid_gate", {{"x", args.x}, {"gate", args.gate}, {"out", args.out}}));
  LS_TRY(check_num_rows("sigmoid_gate", args.num_rows));
  if (args.out.elements() == 0) return {};
  if (on.table.sigmoid_gate == nullptr) return missing_kernel("sigmoid_gate", on.table);
  launch(on.stream, kSigmoidGateSpec, stage, on.table.sigmoid_gate, args);
  return {};
}

Status gated_add(const Launcher& on, const GatedAddArgs& args, std::string_view stage) {
  LS_TRY(bind_dims("gated_add", {{"y", args.y, "TE"}, {"gate", args.gate, "TG"}, {"out", args.out, "TE"}}));
  LS_TRY(check_tensors(
      "gated_add",
      {{"y", args.y}, {"gate", args.gate, DType::kF32, Presence::kOptional}, {"out", args.out}}));
  if (args.gate && args.gate.dim(1) != 1) {
    return error(Code::kInvalidArgument, "gated_add: gate has shape ", args.gate.shape,
                 "; expected one column");
  }
  LS_TRY(check_num_rows("gated_add", args.num_rows));
  if (args.out.elements() == 0) return {};
  if (on.table.gated_add == nullptr) return missing_kernel("gated_add", on.table);
  launch(on.stream, kGatedAddSpec, stage, on.table.gated_add, args);
  return {};
}

}  // namespace lockstep
