#include "kernels/all_heads_norm/all_heads_norm.h"

#include "kernels/common/checks.h"
#include "kernels/table.h"

namespace lockstep {
namespace {

// One number per row.
Status check_column(std::string_view op, std::string_view name, const TensorView& view) {
  if (view.dim(1) == 1) return {};
  return error(Code::kInvalidArgument, op, ": ", name, " has shape ", view.shape,
               "; expected one column: the row's sum of squares");
}

}  // namespace

Status head_squares(const Launcher& on, const HeadSquaresArgs& args, std::string_view stage) {
  LS_TRY(bind_dims("head_squares", {{"x", args.x, "THD"}, {"out", args.out, "TC"}}));
  LS_TRY(check_tensors("head_squares", {{"x", args.x}, {"out", args.out}}));
  LS_TRY(check_column("head_squares", "out", args.out));
  if (args.counted_heads < 0 || args.counted_heads > args.x.dim(1)) {
    return error(Code::kInvalidArgument, "head_squares: counted_heads is ", args.counted_heads,
                 "; expected 0 to H = ", args.x.dim(1), " as in x ", args.x.shape);
  }
  LS_TRY(check_num_rows("head_squares", args.num_rows));
  if (args.out.elements() == 0) return {};
  if (on.table.head_squares == nullptr) return missing_kernel("head_squares", on.table);
  launch(on.stream, kHeadSquaresSpec, stage, on.table.head_squares, args);
  return {};
}

Status all_heads_norm(const Launcher& on, const AllHeadsNormArgs& args, std::string_view stage) {
  LS_TRY(bind_dims("all_heads_norm", {{"x", args.x, "THD"},
                                      {"weight", args.weight, "HD"},
                                      {"squares", args.squares, "TC"},
                                      {"out", args.out, "THD"}}));
  LS_TRY(
      check_tensors("all_heads_norm",
                    {{"x", args.x}, {"weight", args.weight}, {"squares", args.squares}, {"out", args.out}}));
  LS_TRY(check_column("all_heads_norm", "squares", args.squares));
  if (args.width < 1) {
    return error(Code::kInvalidArgument, "all_heads_norm: width is ", args.width,
                 "; expected how many elements the squares add up");
  }
  LS_TRY(check_num_rows("all_heads_norm", args.num_rows));
  if (args.out.elements() == 0) return {};
  if (on.table.all_heads_norm == nullptr) return missing_kernel("all_heads_norm", on.table);
  launch(on.stream, kAllHeadsNormSpec, stage, on.table.all_heads_norm, args);
  return {};
}

}  // namespace lockstep
