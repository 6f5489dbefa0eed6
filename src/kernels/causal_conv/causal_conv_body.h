// causal_conv over a vector type: the bodies of the AVX2 and AVX-512 kernels.
#pragma once

#include "kernels/causal_conv/causal_conv_kernels.h"
#include "kernels/common/live_rows.h"
#include "kernels/common/sequences.h"
#include "kernels/common/simd_math.h"
#include "kernels/common/simd_rows.h"

namespace lockstep {

// Channels that one thread takes at a time. Weights and states are laid out by channel, vectors run over
// channels: a block's weights and old state are turned once and lie in the first cache for all its rows.
inline constexpr int64_t kConvBlock = 512;

// Turned copies of one block: [window][kConvBlock].
struct ConvBlock {
  int64_t begin = 0;  // first channel
  int64_t count = 0;  // channels, at most kConvBlock
  float weight[kMaxConvWindow * kConvBlock];
  float history[kMaxConvWindow * kConvBlock];  // the state before the sequence's first row, oldest first
};

// to[j][c] = from[c * size + j]. With the size known, the compiler turns it with shuffles.
template <int kSize>
[[gnu::always_inline]] inline void turn_known(const float* __restrict from, int64_t channels,
                                              float* __restrict to) {
  for (int64_t c = 0; c < channels; ++c) {
#pragma GCC unroll 4
    for (int j = 0; j < kSize; ++j) to[j * kConvBlock + c] = from[c * kSize + j];
  }
}
[[gnu::always_inline]] inline void turn_channels(const float* from, int64_t size, int64_t channels,
                                                 float* to) {
  if (size == 3) return turn_known<3>(from, channels, to);
  if (size == 4) return turn_known<4>(from, channels, to);
  for (int64_t j = 0; j < size; ++j) {
    for (int64_t c = 0; c < channels; ++c) to[j * kConvBlock + c] = from[c * size + j];
  }
}

[[gnu::always_inline]] inline void load_history(const CausalConvArgs& args, int64_t sequence,
                                                ConvBlock& block) {
  const int64_t size = args.state.dim(2);
  if (static_cast<const int32_t*>(args.has_initial_state.data)[sequence] != 0) {
    const int64_t slot = static_cast<const int32_t*>(args.state_read_slot.data)[sequence];
    const float* state =
        static_cast<const float*>(args.state.data) + slot * args.state.stride(0) + block.begin * size;
    turn_channels(state, size, block.count, block.history);
    return;
  }
  for (int64_t i = 0; i < size * kConvBlock; ++i) block.history[i] = 0;
}

// The block's raw inputs at row t of a sequence that begins at `first`: a row of x, or of the history.
[[gnu::always_inline]] inline const float* conv_input(const CausalConvArgs& args, const ConvBlock& block,
                                                      int64_t first, int64_t t) {
  if (t < first) return block.history + (args.state.dim(2) - (first - t)) * kConvBlock;
  return static_cast<const float*>(args.x.data) + t * args.x.stride(0) + block.begin;
}

// kWindow: the window, or 0 where only the weight knows it.
template <typename V, int kWindow>
[[gnu::always_inline]] inline void conv_row(const CausalConvArgs& args, const ConvBlock& block, int64_t first,
                                            int64_t t) {
  const int64_t window = kWindow > 0 ? kWindow : args.weight.dim(1);
  const float* inputs[kMaxConvWindow];
  for (int64_t j = 0; j < window; ++j) inputs[j] = conv_input(args, block, first, t - (window - 1) + j);
  float* out = static_cast<float*>(args.out.data) + t * args.out.stride(0) + block.begin;
  for_lanes<V>(block.count, [&](int64_t c, int64_t n) {
    // The next row lies on another page, where the processor does not look ahead.
    __builtin_prefetch(inputs[window - 1] + c + args.x.stride(0));
    auto sum = V::mul(V::load(block.weight + c), load_lanes<V>(inputs[0] + c, n));
#pragma GCC unroll 3
    for (int64_t j = 1; j < window; ++j) {
      sum = V::fma(V::load(block.weight + j * kConvBlock + c), load_lanes<V>(inputs[j] + c, n), sum);
    }
    store_lanes<V>(out + c, simd_silu<V>(sum), n);
  });
}

// Rows [begin, end) of one block of channels.
template <typename V>
void conv_rows(const CausalConvArgs& args, ConvBlock& block, int64_t begin, int64_t end) {
  const int64_t window = args.weight.dim(1);
  turn_channels(static_cast<const float*>(args.weight.data) + block.begin * window, window, block.count,
                block.weight);
  const int64_t sequences = live_seqs(args.num_seqs, args.state_read_slot.dim(0));
  for (int64_t s = 0; s < sequences; ++s) {
    const SequenceRows own = rows_of(args.query_start_loc, s);
    const int64_t from = own.begin > begin ? own.begin : begin;
    const int64_t to = own.end < end ? own.end : end;
    if (from >= to) continue;
    if (from < own.begin + window - 1) load_history(args, s, block);
    for (int64_t t = from; t < to; ++t) {
      window == 4 ? conv_row<V, 4>(args, block, own.begin, t) : conv_row<V, 0>(args, block, own.begin, t);
    }
  }
  const int64_t live = live_rows(args.num_rows, args.out.dim(0));
  for (int64_t t = live > begin ? live : begin; t < end; ++t) {
    zero_row<V>(static_cast<float*>(args.out.data) + t * args.out.stride(0) + block.begin, block.count);
  }
}

// A worker takes a run of (block of channels, row), rows innermost: blocks divide a decode step, rows a long
// prompt.
template <typename V>
void causal_conv_body(const CausalConvArgs& args, Worker worker) {
  const int64_t rows = args.out.dim(0);
  const int64_t channels = args.out.dim(1);
  const int64_t blocks = (channels + kConvBlock - 1) / kConvBlock;
  const Worker::Range items = worker.share(blocks * rows);
  ConvBlock block;
  for (int64_t item = items.begin; item < items.end;) {
    const int64_t begin = item % rows;
    const int64_t left = items.end - item;
    const int64_t end = begin + left < rows ? begin + left : rows;
    block.begin = item / rows * kConvBlock;
    block.count = channels - block.begin < kConvBlock ? channels - block.begin : kConvBlock;
    conv_rows<V>(args, block, begin, end);
    item += end - begin;
  }
}

// to[c * size + j] = from[j][c]
[[gnu::always_inline]] inline void turn_back(const float* const* from, int64_t size, int64_t channels,
                                             float* __restrict to) {
  if (size == 3) {
    const float* __restrict a = from[0], * __restrict b = from[1], * __restrict last = from[2];
    for (int64_t c = 0; c < channels; ++c) {
      to[3 * c] = a[c];
      to[3 * c + 1] = b[c];
      to[3 * c + 2] = last[c];
    }
    return;
  }
  for (int64_t j = 0; j < size; ++j) {
    for (int64_t c = 0; c < channels; ++c) to[c * size + j] = from[j][c];
  }
}

// The states of one sequence and block: the old one is read whole before the first new one is written, since
// they may share a slot.
template <typename V>
void conv_states(const CausalConvArgs& args, int64_t sequence, ConvBlock& block) {
  const int64_t size = args.state.dim(2);
  const SequenceRows own = rows_of(args.query_start_loc, sequence);
  if (own.begin == own.end) return;
  load_history(args, sequence, block);
  for (int64_t t = own.begin; t < own.end; ++t) {
    const int64_t slot = static_cast<const int32_t*>(args.state_write_slots.data)[t];
    if (slot < 0) continue;
    float* state = static_cast<float*>(args.state.data) + slot * args.state.stride(0) + block.begin * size;
    const float* inputs[kMaxConvWindow];
    for (int64_t j = 0; j < size; ++j) inputs[j] = conv_input(args, block, own.begin, t - size + 1 + j);
    turn_back(inputs, size, block.count, state);
  }
}

template <typename V>
void causal_conv_state_body(const CausalConvArgs& args, Worker worker) {
  const int64_t channels = args.out.dim(1);
  const int64_t blocks = (channels + kConvBlock - 1) / kConvBlock;
  const Worker::Range items = worker.share(live_seqs(args.num_seqs, args.state_read_slot.dim(0)) * blocks);
  ConvBlock block;
  for (int64_t item = items.begin; item < items.end; ++item) {
    block.begin = item % blocks * kConvBlock;
    block.count = channels - block.begin < kConvBlock ? channels - block.begin : kConvBlock;
    conv_states<V>(args, item / blocks, block);
  }
}

}  // namespace lockstep
