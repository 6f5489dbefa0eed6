// linear over a Core: inputs are prepared in one launch, multiplied in the next.
#pragma once

#include <cstring>

#include "kernels/common/live_rows.h"
#include "kernels/linear/linear.h"
#include "kernels/linear/prepare.h"
#include "kernels/linear/tile.h"

namespace lockstep {

// Rounds or copies the live rows of x into the workspace. Rows are shared among workers.
template <typename Core>
void prepare_inputs(const LinearArgs& args, Worker worker) {
  const RowBlocks blocks{live_rows(args.num_rows, args.x.dim(0))};
  const int64_t words = input_words<Core>(panel_lines(args.weight));
  const Worker::Range mine = worker.share(blocks.rows);
  auto* inputs = static_cast<uint32_t*>(args.workspace.data);
  for (int64_t block = 0; block < blocks.count(); ++block) {
    const int64_t begin = blocks.begin(block);
    const int64_t end = blocks.begin(block + 1);
    for (int64_t t = begin > mine.begin ? begin : mine.begin; t < end && t < mine.end; ++t) {
      const float* x = static_cast<const float*>(args.x.data) + t * args.x.stride(0);
      prepare_row<Core>(x, args.weight.k, args.input == MatmulInput::kBF16,
                        inputs + begin * words + (t - begin), words, end - begin);
    }
  }
}

// One block of rows against up to 8 neighbouring panels, from `panel` on.
template <typename Core>
void multiply_block(const LinearArgs& args, const RowBlocks& blocks, int64_t block, int64_t panel,
                    int64_t count) {
  const int64_t lines = panel_lines(args.weight);
  const int64_t begin = blocks.begin(block);
  alignas(64) float sums[kBlockRows * kSumColumns];
  BlockSums job{
      .count = static_cast<int>(count),
      .inputs = static_cast<const uint32_t*>(args.workspace.data) + begin * input_words<Core>(lines),
      .rows = blocks.begin(block + 1) - begin,
      .lines = lines,
      .ahead = count * lines * kLineBytes,
      .sums = sums};
  for (int64_t p = 0; p < count; ++p) {
    job.panels[p] = static_cast<const char*>(args.weight.data) + (panel + p) * lines * kLineBytes;
  }
  sum_block<Core>(job);
  const int64_t column = panel * kPanelColumns;
  const int64_t left = args.weight.n - column;
  const int64_t columns = left < count * kPanelColumns ? left : count * kPanelColumns;
  for (int64_t r = 0; r < job.rows; ++r) {
    float* out = static_cast<float*>(args.out.data) + (begin + r) * args.out.stride(0) + column;
    const float* sum = sums + r * kSumColumns;
    if (args.accumulate) {
      for (int64_t c = 0; c < columns; ++c) out[c] += sum[c];
    } else {
      for (int64_t c = 0; c < columns; ++c) out[c] = sum[c];
    }
  }
}

// Panels that are multiplied with all blocks before the next ones are read: what fits in half of a 1 MiB
// second-level cache, but at least what registers hold.
template <typename Core>
int64_t panels_per_group(int64_t lines) {
  constexpr int64_t kCacheBytes = int64_t{512} << 10;
  constexpr int64_t kMost = kSumColumns / kPanelColumns;
  const int64_t fitting = kCacheBytes / (lines * kLineBytes + 1) / 2 * 2;
  return fitting < 2 ? 2 : fitting > kMost ? kMost : fitting;
}

template <typename Core>
void multiply(const LinearArgs& args, Worker worker) {
  const int64_t rows = args.x.dim(0);
  const RowBlocks blocks{live_rows(args.num_rows, rows)};
  const int64_t panels = (args.weight.n + kPanelColumns - 1) / kPanelColumns;
  if (blocks.count() == 1) {
    // Bound by memory: each worker reads one stretch of panels.
    const Worker::Range mine = worker.share(panels);
    const int64_t step = blocks.rows > Core::kMaxRows ? 1 : Core::max_panels(static_cast<int>(blocks.rows));
    for (int64_t panel = mine.begin; panel < mine.end; panel += step) {
      multiply_block<Core>(args, blocks, 0, panel, step < mine.end - panel ? step : mine.end - panel);
    }
  } else {
    // Bound by arithmetic: all blocks of a group of panels in turn, so that workers share one group at most.
    const int64_t step = panels_per_group<Core>(panel_lines(args.weight));
    const Worker::Range mine = worker.share((panels + step - 1) / step * blocks.count());
    for (int64_t item = mine.begin; item < mine.end; ++item) {
      const int64_t panel = item / blocks.count() * step;
      multiply_block<Core>(args, blocks, item % blocks.count(), panel,
                           step < panels - panel ? step : panels - panel);
    }
  }
  const Worker::Range pads = worker.share(rows - blocks.rows);
  for (int64_t t = blocks.rows + pads.begin; t < blocks.rows + pads.end; ++t) {
    std::memset(static_cast<float*>(args.out.data) + t * args.out.stride(0), 0,
                static_cast<size_t>(args.weight.n) * sizeof(float));
  }
}

}  // namespace lockstep
