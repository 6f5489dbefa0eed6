#include "kernels/causal_conv/causal_conv.h"

#include "kernels/common/checks.h"
#include "kernels/common/sequences.h"
#include "kernels/table.h"

namespace lockstep {
namespace {

Status check_window(const CausalConvArgs& args) {
  const int64_t window = args.weight.dim(1);
  if (window < 1 || window > kMaxConvWindow) {
    return error(Code::kInvalidArgument, "causal_conv: weight ", args.weight.shape, " has a window of ",
                 window, " rows; expected 1 to ", kMaxConvWindow);
  }
  if (args.state.dim(2) != window - 1) {
    return error(Code::kInvalidArgument, "causal_conv: state ", args.state.shape, " holds ",
                 args.state.dim(2), " rows; expected ", window - 1, ", one less than the window of weight ",
                 args.weight.shape);
  }
  if (args.x.data == args.out.data && args.x.elements() > 0) {
    return error(Code::kInvalidArgument, "causal_conv: out is x; expected memory of its own");
  }
  return {};
}

Status convolve(const Launcher& on, const CausalConvArgs& args, std::string_view stage, const OpSpec& spec) {
  LS_TRY(check_tensors("causal_conv",
                       {{"x", args.x}, {"weight", args.weight}, {"state", args.state}, {"out", args.out}}));
  LS_TRY(bind_dims("causal_conv", {{"x", args.x, "TC"},
                                   {"weight", args.weight, "CW"},
                                   {"state", args.state, "NCV"},
                                   {"out", args.out, "TC"}}));
  LS_TRY(check_window(args));
  LS_TRY(check_state("causal_conv", args.state));
  LS_TRY(check_sequences("causal_conv",
                         {.query_start_loc = args.query_start_loc,
                          .state_read_slot = args.state_read_slot,
                          .state_write_slots = args.state_write_slots,
                          .has_initial_state = args.has_initial_state,
                          .num_rows = args.num_rows,
                          .num_seqs = args.num_seqs},
                         args.x.dim(0)));
  if (args.x.elements() == 0) return {};
  if (on.table.causal_conv == nullptr) return missing_kernel("causal_conv", on.table);
  if (on.table.causal_conv_state == nullptr) return missing_kernel("causal_conv_state", on.table);
  launch(on.stream, spec, stage, on.table.causal_conv, args);
  launch(on.stream, kCausalConvStateSpec, stage, on.table.causal_conv_state, args);
  return {};
}

}  // namespace

Status causal_conv(const Launcher& on, const CausalConvArgs& args, std::string_view stage) {
  return convolve(on, args, stage, kCausalConvSpec);
}

Status causal_conv_part(const Launcher& on, const CausalConvArgs& args, std::string_view stage) {
  return convolve(on, args, stage, kCausalConvPartSpec);
}

}  // namespace lockstep
