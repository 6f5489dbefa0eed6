#include "kernels/lightning/lightning.h"

#include "kernels/common/checks.h"
#include "kernels/common/recurrent_chunks.h"
#include "kernels/lightning/lightning_kernels.h"
#include "kernels/table.h"

namespace lockstep {
namespace {

Status check_shapes(const LightningArgs& args) {
  LS_TRY(check_tensors("lightning", {{"q", args.q},
                                     {"k", args.k},
                                     {"v", args.v},
                                     {"decay", args.decay},
                                     {"state", args.state},
                                     {"out", args.out}}));
  LS_TRY(bind_dims("lightning", {{"q", args.q, "THD"},
                                 {"k", args.k, "TKD"},
                                 {"v", args.v, "TKE"},
                                 {"decay", args.decay, "H"},
                                 {"state", args.state, "NHDE"},
                                 {"out", args.out, "THE"}}));
  const int64_t key_heads = args.k.dim(1);
  if (key_heads < 1 || args.q.dim(1) % key_heads != 0) {
    return error(Code::kInvalidArgument, "lightning: q ", args.q.shape, " has ", args.q.dim(1),
                 " heads; expected a multiple of the ", key_heads, " heads of k ", args.k.shape);
  }
  return check_state("lightning", args.state);
}

Status compute(const Launcher& on, const LightningArgs& args, std::string_view stage, const OpSpec& spec) {
  LS_TRY(check_shapes(args));
  LS_TRY(check_sequences("lightning",
                         {.query_start_loc = args.query_start_loc,
                          .state_read_slot = args.state_read_slot,
                          .state_write_slots = args.state_write_slots,
                          .has_initial_state = args.has_initial_state,
                          .num_rows = args.num_rows,
                          .num_seqs = args.num_seqs},
                         args.q.dim(0)));
  LS_TRY(check_workspace("lightning", args.workspace,
                         lightning_workspace_bytes(on.stream.threads(), args.q.dim(2), args.v.dim(2))));
  if (on.stream.device() != nullptr && args.input == MatmulInput::kBF16) {
    LS_TRY(
        check_workspace("lightning", args.workspace,
                        lightning_device_bytes(args.q.dim(0), args.k.dim(1), args.q.dim(1), args.q.dim(2))));
  }
  if (args.out.elements() == 0) return {};
  if (on.table.lightning == nullptr) return missing_kernel("lightning", on.table);
  launch(on.stream, spec, stage, on.table.lightning, args);
  return {};
}

}  // namespace

int64_t lightning_workspace_bytes(int threads, int64_t key_dim, int64_t value_dim) {
  return threads * lightning_scratch(key_dim, value_dim).bytes;
}

int64_t lightning_device_bytes(int64_t rows, int64_t key_heads, int64_t heads, int64_t key_dim) {
  return chunk_scratch(
             {.rows = rows, .query_heads = heads, .key_heads = key_heads, .heads = heads, .key_dim = key_dim})
      .bytes;
}

Status lightning(const Launcher& on, const LightningArgs& args, std::string_view stage) {
  return compute(on, args, stage, kLightningSpec);
}

Status lightning_part(const Launcher& on, const LightningArgs& args, std::string_view stage) {
  return compute(on, args, stage, kLightningPartSpec);
}

}  // namespace lockstep
