#include "kernels/common/sequences.h"

#include "kernels/common/checks.h"

namespace lockstep {

Status check_sequences(std::string_view op, const SequenceArgs& args, int64_t rows) {
  LS_TRY(check_tensors(op, {{"query_start_loc", args.query_start_loc, DType::kI32},
                            {"state_read_slot", args.state_read_slot, DType::kI32},
                            {"state_write_slots", args.state_write_slots, DType::kI32},
                            {"has_initial_state", args.has_initial_state, DType::kI32}}));
  LS_TRY(bind_dims(op, {{"query_start_loc", args.query_start_loc, "Q"},
                        {"state_read_slot", args.state_read_slot, "S"},
                        {"has_initial_state", args.has_initial_state, "S"},
                        {"state_write_slots", args.state_write_slots, "T"}}));
  const int64_t sequences = args.state_read_slot.dim(0);
  if (args.query_start_loc.dim(0) != sequences + 1) {
    return error(Code::kInvalidArgument, op, ": query_start_loc has shape ", args.query_start_loc.shape,
                 "; expected [", sequences + 1, "], one more than state_read_slot ",
                 args.state_read_slot.shape);
  }
  if (args.state_write_slots.dim(0) != rows) {
    return error(Code::kInvalidArgument, op, ": state_write_slots has shape ", args.state_write_slots.shape,
                 "; expected [", rows, "], one per row");
  }
  LS_TRY(check_count(op, "num_rows", args.num_rows));
  return check_count(op, "num_seqs", args.num_seqs);
}

Status check_state(std::string_view op, const TensorView& state) {
  int64_t step = 1;
  bool dense = true;
  for (int64_t i = state.shape.rank - 1; i > 0; --i) {
    dense = dense && (state.dim(i) <= 1 || state.stride(i) == step);
    step *= state.dim(i);
  }
  dense = dense && (state.dim(0) <= 1 || state.stride(0) >= step);
  if (dense) return {};
  return error(Code::kInvalidArgument, op, ": state ", state.shape, " has gaps inside a slot or slots that ",
               "overlap; expected dense slots, ", step, " elements or more apart");
}

}  // namespace lockstep
