#include "kernels/common/checks.h"

#include "base/fault.h"

namespace lockstep {
namespace {

Status check_tensor(std::string_view op, const TensorRule& rule) {
  if (!rule.view) {
    if (rule.presence == Presence::kOptional || rule.view.elements() == 0) return {};
    return error(Code::kInvalidArgument, op, ": ", rule.name, " has no memory; it is required");
  }
  LS_TRY(check_dtype(op, rule.name, rule.view, rule.dtype));
  return check_dense_rows(op, rule.name, rule.view);
}

}  // namespace

Status check_dtype(std::string_view op, std::string_view name, const TensorView& view, DType expected) {
  if (view.dtype == expected) return {};
  return error(Code::kInvalidArgument, op, ": ", name, " is ", view.dtype, "; expected ", expected);
}

Status check_dense_rows(std::string_view op, std::string_view name, const TensorView& view) {
  const int64_t last = view.shape.rank - 1;
  if (last < 0 || view.dim(last) <= 1 || view.stride(last) == 1) return {};
  return error(Code::kInvalidArgument, op, ": ", name, " ", view.shape, " has an innermost stride of ",
               view.stride(last), "; expected 1");
}

Status check_workspace(std::string_view op, const TensorView& workspace, int64_t least_bytes) {
  const int64_t bytes = workspace ? workspace.bytes() : 0;
  if (bytes >= least_bytes) return {};
  const Status small =
      error(Code::kInvalidArgument, op, ": workspace has ", bytes, " bytes; expected at least ", least_bytes);
  if (!rule_is_on("L1")) return small;
  return Status(small.code(), small.message(),
                std::make_shared<const Fault>(Fault{.check = "L1",
                                                    .moment = Moment::kLaunch,
                                                    .consumer = std::string(op),
                                                    .field = "workspace",
                                                    .expected = concat("at least ", least_bytes, " bytes"),
                                                    .found = concat(bytes, " bytes")}));
}

Status check_count(std::string_view op, std::string_view name, const void* count) {
  if (count != nullptr) return {};
  return error(Code::kInvalidArgument, op, ": ", name, " is null; expected the address of a count");
}

Status check_tensors(std::string_view op, std::initializer_list<TensorRule> rules) {
  for (const TensorRule& rule : rules) LS_TRY(check_tensor(op, rule));
  return {};
}

}  // namespace lockstep
