// linear over a Core: inputs are prepared in one launch, multiplied in the next, unless there are few.
#pragma once

#include <cstring>

#include "kernels/common/live_rows.h"
#include "kernels/linear/linear_kernels.h"
#include "kernels/linear/prepare.h"
#include "kernels/linear/tile.h"

namespace lockstep {

// Rounds or copies the live rows of x into `inputs`, block after block. Workers share blocks and, within a
// block, stretches of k: rows lie side by side in every cache line, so sharing rows would have workers fight
// for lines.
template <typename Core>
void prepare_inputs(const LinearArgs& args, Worker worker, uint32_t* inputs) {
  const RowBlocks blocks{live_rows(args.num_rows, args.x.dim(0))};
  const int64_t words = input_words<Core>(panel_lines(args.weight));
  const int64_t chunks = chunks_of(words);
  const Worker::Range mine = worker.share(blocks.count() * chunks);
  for (int64_t item = mine.begin; item < mine.end; ++item) {
    const int64_t begin = blocks.begin(item / chunks), end = blocks.begin(item / chunks + 1);
    for (int64_t t = begin; t < end; ++t) {
      const float* x = static_cast<const float*>(args.x.data) + t * args.x.stride(0);
      prepare_chunk<Core>(x, args.weight.k, args.input == MatmulInput::kBF16, chunk_at(item % chunks, words),
                          inputs + begin * words + (t - begin), end - begin);
    }
  }
}

template <typename Core>
void prepare_workspace(const LinearArgs& args, Worker worker) {
  prepare_inputs<Core>(args, worker, static_cast<uint32_t*>(args.workspace.data));
}

// One block of rows against one panel.
template <typename Core>
void multiply_block(const LinearArgs& args, const uint32_t* inputs, const RowBlocks& blocks, int64_t block,
                    int64_t panel) {
  const int64_t lines = panel_lines(args.weight);
  const int64_t begin = blocks.begin(block);
  const int64_t rows = blocks.begin(block + 1) - begin;
  alignas(64) float sums[kBlockRows * kPanelColumns];
  sum_block<Core>({.panel = static_cast<const char*>(args.weight.data) + panel * lines * kLineBytes,
                   .inputs = inputs + begin * input_words<Core>(lines),
                   .rows = rows,
                   .lines = lines,
                   .sums = sums});
  const int64_t column = panel * kPanelColumns;
  const int64_t left = args.weight.n - column;
  const int64_t columns = left < kPanelColumns ? left : kPanelColumns;
  for (int64_t r = 0; r < rows; ++r) {
    float* out = static_cast<float*>(args.out.data) + (begin + r) * args.out.stride(0) + column;
    const float* sum = sums + r * kPanelColumns;
    for (int64_t c = 0; c < columns; ++c) out[c] = sum[c];
  }
}

// Every panel stays in the second-level cache while all blocks of rows pass; workers take neighbouring
// (panel, block) pairs, so that two of them share one panel at most.
template <typename Core>
void multiply_inputs(const LinearArgs& args, const uint32_t* inputs, Worker worker) {
  const int64_t rows = args.x.dim(0);
  const RowBlocks blocks{live_rows(args.num_rows, rows)};
  const int64_t panels = (args.weight.n + kPanelColumns - 1) / kPanelColumns;
  const int64_t count = blocks.count();
  const Worker::Range mine = worker.share(panels * count);
  for (int64_t item = mine.begin; item < mine.end; ++item) {
    multiply_block<Core>(args, inputs, blocks, item % count, item / count);
  }
  const Worker::Range pads = worker.share(rows - blocks.rows);
  for (int64_t t = blocks.rows + pads.begin; t < blocks.rows + pads.end; ++t) {
    std::memset(static_cast<float*>(args.out.data) + t * args.out.stride(0), 0,
                static_cast<size_t>(args.weight.n) * sizeof(float));
  }
}

// A function of its own, so that only calls that need it pay for the stack.
template <typename Core>
[[gnu::noinline]] void multiply_own_inputs(const LinearArgs& args, Worker worker) {
  alignas(64) uint32_t inputs[Core::kPairs ? kOwnInputs / 2 : kOwnInputs];
  prepare_inputs<Core>(args, {0, 1}, inputs);
  multiply_inputs<Core>(args, inputs, worker);
}

template <typename Core>
void multiply(const LinearArgs& args, Worker worker) {
  if (prepares_own_inputs(args)) return multiply_own_inputs<Core>(args, worker);
  multiply_inputs<Core>(args, static_cast<const uint32_t*>(args.workspace.data), worker);
}

}  // namespace lockstep
