#include "kernels/common/checks.h"

namespace lockstep {
namespace {

Status check_tensor(std::string_view op, const TensorRule& rule) {
  const TensorView& view = rule.view;
  if (!view) {
    if (rule.presence == Presence::kOptional || view.elements() == 0) return {};
    return error(Code::kInvalidArgument, op, ": ", rule.name, " has no memory; it is required");
  }
  if (view.dtype != rule.dtype) {
    return error(Code::kInvalidArgument, op, ": ", rule.name, " is ", view.dtype, "; expected ", rule.dtype);
  }
  const int last = view.shape.rank - 1;
  if (last >= 0 && view.dim(last) > 1 && view.stride(last) != 1) {
    return error(Code::kInvalidArgument, op, ": ", rule.name, " ", view.shape, " has an innermost stride of ",
                 view.stride(last), "; expected 1");
  }
  return {};
}

}  // namespace

Status check_tensors(std::string_view op, std::initializer_list<TensorRule> rules) {
  for (const TensorRule& rule : rules) LS_TRY(check_tensor(op, rule));
  return {};
}

Status check_workspace(std::string_view op, const TensorView& workspace, int64_t least_bytes) {
  const int64_t bytes = workspace ? workspace.bytes() : 0;
  if (bytes >= least_bytes) return {};
  return error(Code::kInvalidArgument, op, ": workspace has ", bytes, " bytes; expected at least ",
               least_bytes);
}

Status check_count(std::string_view op, std::string_view name, const void* count) {
  if (count != nullptr) return {};
  return error(Code::kInvalidArgument, op, ": ", name, " is null; expected the address of a count");
}

}  // namespace lockstep
