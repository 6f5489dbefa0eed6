// linear over a Core: inputs are prepared in one launch, multiplied in the next.
#pragma once

#include <cstring>

#include "kernels/common/live_rows.h"
#include "kernels/linear/linear.h"
#include "kernels/linear/prepare.h"
#include "kernels/linear/tile.h"

namespace lockstep {

// Rounds or copies the live rows of x into the workspace. Workers share blocks and, within a block, stretches
// of k: rows lie side by side in every cache line, so sharing rows would have workers fight for lines.
template <typename Core>
void prepare_inputs(const LinearArgs& args, Worker worker) {
  const RowBlocks blocks{live_rows(args.num_rows, args.x.dim(0))};
  const int64_t words = input_words<Core>(panel_lines(args.weight));
  const int64_t chunks = chunks_of(words);
  const Worker::Range mine = worker.share(blocks.count() * chunks);
  for (int64_t item = mine.begin; item < mine.end; ++item) {
    const int64_t begin = blocks.begin(item / chunks), end = blocks.begin(item / chunks + 1);
    uint32_t* inputs = static_cast<uint32_t*>(args.workspace.data) + begin * words;
    for (int64_t t = begin; t < end; ++t) {
      const float* x = static_cast<const float*>(args.x.data) + t * args.x.stride(0);
      prepare_chunk<Core>(x, args.weight.k, args.input == MatmulInput::kBF16, chunk_at(item % chunks, words),
                          inputs + (t - begin), end - begin);
    }
  }
}

// One block of rows against one panel.
template <typename Core>
void multiply_block(const LinearArgs& args, const RowBlocks& blocks, int64_t block, int64_t panel) {
  const int64_t lines = panel_lines(args.weight);
  const int64_t begin = blocks.begin(block);
  const int64_t rows = blocks.begin(block + 1) - begin;
  alignas(64) float sums[kBlockRows * kPanelColumns];
  sum_block<Core>(
      {.panel = static_cast<const char*>(args.weight.data) + panel * lines * kLineBytes,
       .inputs = static_cast<const uint32_t*>(args.workspace.data) + begin * input_words<Core>(lines),
       .rows = rows,
       .lines = lines,
       .sums = sums});
  const int64_t column = panel * kPanelColumns;
  const int64_t left = args.weight.n - column;
  const int64_t columns = left < kPanelColumns ? left : kPanelColumns;
  for (int64_t r = 0; r < rows; ++r) {
    float* out = static_cast<float*>(args.out.data) + (begin + r) * args.out.stride(0) + column;
    const float* sum = sums + r * kPanelColumns;
    if (args.accumulate) {
      for (int64_t c = 0; c < columns; ++c) out[c] += sum[c];
    } else {
      for (int64_t c = 0; c < columns; ++c) out[c] = sum[c];
    }
  }
}

// Every panel stays in the second-level cache while all blocks of rows pass; workers take neighbouring
// (panel, block) pairs, so that two of them share one panel at most.
template <typename Core>
void multiply(const LinearArgs& args, Worker worker) {
  const int64_t rows = args.x.dim(0);
  const RowBlocks blocks{live_rows(args.num_rows, rows)};
  const int64_t panels = (args.weight.n + kPanelColumns - 1) / kPanelColumns;
  const int64_t count = blocks.count();
  const Worker::Range mine = worker.share(panels * count);
  for (int64_t item = mine.begin; item < mine.end; ++item) {
    multiply_block<Core>(args, blocks, item % count, item / count);
  }
  const Worker::Range pads = worker.share(rows - blocks.rows);
  for (int64_t t = blocks.rows + pads.begin; t < blocks.rows + pads.end; ++t) {
    std::memset(static_cast<float*>(args.out.data) + t * args.out.stride(0), 0,
                static_cast<size_t>(args.weight.n) * sizeof(float));
  }
}

}  // namespace lockstep
