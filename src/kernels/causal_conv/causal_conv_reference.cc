// The oracle of causal_conv: plain loops, sums and SiLU in f64.
#include <cmath>

#include "kernels/causal_conv/causal_conv_kernels.h"
#include "kernels/common/live_rows.h"
#include "kernels/common/sequences.h"

namespace lockstep::reference {
namespace {

// The raw input of channel c at row t of a sequence that begins at row `begin`; rows before it are the old
// state's, or zero.
float input_at(const CausalConvArgs& args, int64_t sequence, int64_t t, int64_t c) {
  const int64_t begin = rows_of(args.query_start_loc, sequence).begin;
  if (t >= begin) return args.x.as<const float>()[t * args.x.stride(0) + c];
  if (args.has_initial_state.as<const int32_t>()[sequence] == 0) return 0;
  const int64_t history = args.state.dim(2);
  const int64_t slot = args.state_read_slot.as<const int32_t>()[sequence];
  return args.state.as<const float>()[slot * args.state.stride(0) + c * history + history - (begin - t)];
}

}  // namespace

void causal_conv(const CausalConvArgs& args, Worker worker) {
  const int64_t rows = args.out.dim(0);
  const int64_t window = args.weight.dim(1);
  const Worker::Range channels = worker.share(args.out.dim(1));
  for (int64_t s = 0; s < live_seqs(args.num_seqs, args.state_read_slot.dim(0)); ++s) {
    const SequenceRows own = rows_of(args.query_start_loc, s);
    for (int64_t t = own.begin; t < own.end; ++t) {
      for (int64_t c = channels.begin; c < channels.end; ++c) {
        const float* weight = args.weight.as<const float>() + c * args.weight.stride(0);
        double sum = 0;
        for (int64_t j = 0; j < window; ++j) {
          sum += static_cast<double>(weight[j]) *
                 static_cast<double>(input_at(args, s, t - (window - 1) + j, c));
        }
        args.out.as<float>()[t * args.out.stride(0) + c] = static_cast<float>(sum / (1.0 + std::exp(-sum)));
      }
    }
  }
  for (int64_t t = live_rows(args.num_rows, rows); t < rows; ++t) {
    float* out = args.out.as<float>() + t * args.out.stride(0);
    for (int64_t c = channels.begin; c < channels.end; ++c) out[c] = 0;
  }
}

// A channel's old state is read whole before its first new one is written: they may share a slot.
void causal_conv_state(const CausalConvArgs& args, Worker worker) {
  const int64_t history = args.state.dim(2);
  const Worker::Range channels = worker.share(args.out.dim(1));
  for (int64_t s = 0; s < live_seqs(args.num_seqs, args.state_read_slot.dim(0)); ++s) {
    const SequenceRows own = rows_of(args.query_start_loc, s);
    for (int64_t c = channels.begin; c < channels.end; ++c) {
      float old[kMaxConvWindow];
      for (int64_t j = 0; j < history; ++j) old[j] = input_at(args, s, own.begin - history + j, c);
      for (int64_t t = own.begin; t < own.end; ++t) {
        const int64_t slot = args.state_write_slots.as<const int32_t>()[t];
        if (slot < 0) continue;
        float* state = args.state.as<float>() + slot * args.state.stride(0) + c * history;
        for (int64_t j = 0; j < history; ++j) {
          const int64_t from = t - history + 1 + j;
          state[j] = from < own.begin ? old[history + (from - own.begin)] : input_at(args, s, from, c);
        }
      }
    }
  }
}

}  // namespace lockstep::reference
