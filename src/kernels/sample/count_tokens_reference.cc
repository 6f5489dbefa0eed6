#include "kernels/common/sequences.h"
#include "kernels/sample/sample_kernels.h"

namespace lockstep::reference {

// One sequence per thread at a time: its rows are few and its slot is its own.
void count_tokens(const CountTokensArgs& args, Worker worker) {
  const int64_t vocab = args.counts.dim(1);
  const auto* tokens = args.token_ids.as<const int32_t>();
  const auto* positions = args.positions.as<const int32_t>();
  const Worker::Range sequences = worker.share(live_seqs(args.num_seqs, args.penalty_slots.dim(0)));
  for (int64_t s = sequences.begin; s < sequences.end; ++s) {
    const int64_t slot = args.penalty_slots.as<const int32_t>()[s];
    if (slot < 0) continue;
    const int32_t prompt = args.prompt_lens.as<const int32_t>()[s];
    int32_t* counts = args.counts.as<int32_t>() + slot * args.counts.stride(0);
    const SequenceRows own = rows_of(args.query_start_loc, s);
    for (int64_t t = own.begin; t < own.end; ++t) {
      if (positions[t] == 0) {
        for (int64_t v = 0; v < vocab; ++v) counts[v] = 0;
      }
      const int64_t token = tokens[t];
      if (token < 0 || token >= vocab) continue;
      counts[token] = positions[t] < prompt ? counts[token] | 1 : counts[token] + 2;
    }
  }
}

}  // namespace lockstep::reference
