#include "kernels/gated_delta/gated_delta.h"

#include "kernels/common/checks.h"
#include "kernels/common/recurrent_chunks.h"
#include "kernels/gated_delta/gated_delta_kernels.h"
#include "kernels/table.h"

namespace lockstep {
namespace {

Status check_shapes(const GatedDeltaArgs& args) {
  LS_TRY(check_tensors("gated_delta", {{"q", args.q},
                                       {"k", args.k},
                                       {"v", args.v},
                                       {"b", args.b},
                                       {"a", args.a},
                                       {"a_log", args.a_log},
                                       {"dt_bias", args.dt_bias},
                                       {"state", args.state},
                                       {"out", args.out}}));
  LS_TRY(bind_dims("gated_delta", {{"q", args.q, "THD"},
                                   {"k", args.k, "THD"},
                                   {"v", args.v, "TGE"},
                                   {"b", args.b, "TG"},
                                   {"a", args.a, "TG"},
                                   {"a_log", args.a_log, "G"},
                                   {"dt_bias", args.dt_bias, "G"},
                                   {"state", args.state, "NGDE"},
                                   {"out", args.out, "TGE"}}));
  const int64_t key_heads = args.q.dim(1);
  if (key_heads < 1 || args.v.dim(1) % key_heads != 0) {
    return error(Code::kInvalidArgument, "gated_delta: v ", args.v.shape, " has ", args.v.dim(1),
                 " heads; expected a multiple of the ", key_heads, " heads of q ", args.q.shape);
  }
  return check_state("gated_delta", args.state);
}

Status compute(const Launcher& on, const GatedDeltaArgs& args, std::string_view stage, const OpSpec& spec) {
  LS_TRY(check_shapes(args));
  LS_TRY(check_sequences("gated_delta",
                         {.query_start_loc = args.query_start_loc,
                          .state_read_slot = args.state_read_slot,
                          .state_write_slots = args.state_write_slots,
                          .has_initial_state = args.has_initial_state,
                          .num_rows = args.num_rows,
                          .num_seqs = args.num_seqs},
                         args.q.dim(0)));
  LS_TRY(check_workspace("gated_delta", args.workspace,
                         gated_delta_workspace_bytes(on.stream.threads(), args.q.dim(2), args.v.dim(2))));
  if (on.stream.device() != nullptr && args.input == MatmulInput::kBF16) {
    LS_TRY(check_workspace(
        "gated_delta", args.workspace,
        gated_delta_device_bytes(args.q.dim(0), args.q.dim(1), args.v.dim(1), args.q.dim(2))));
  }
  if (args.out.elements() == 0) return {};
  if (on.table.gated_delta == nullptr) return missing_kernel("gated_delta", on.table);
  launch(on.stream, spec, stage, on.table.gated_delta, args);
  return {};
}

}  // namespace

int64_t gated_delta_workspace_bytes(int threads, int64_t key_dim, int64_t value_dim) {
  return threads * gated_delta_scratch(key_dim, value_dim).bytes;
}

int64_t gated_delta_device_bytes(int64_t rows, int64_t key_heads, int64_t value_heads, int64_t key_dim) {
  return chunk_scratch({.rows = rows,
                        .query_heads = key_heads,
                        .key_heads = key_heads,
                        .heads = value_heads,
                        .key_dim = key_dim})
      .bytes;
}

Status gated_delta(const Launcher& on, const GatedDeltaArgs& args, std::string_view stage) {
  return compute(on, args, stage, kGatedDeltaSpec);
}

Status gated_delta_part(const Launcher& on, const GatedDeltaArgs& args, std::string_view stage) {
  return compute(on, args, stage, kGatedDeltaPartSpec);
}

}  // namespace lockstep
