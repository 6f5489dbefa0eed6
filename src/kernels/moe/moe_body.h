// moe_route and moe_experts over a Core (tile.h) and a vector type (simd_avx2.h, simd_avx512.h).
//
// Choices are sorted by expert; an expert's rows are cut into blocks, and the work of a product is the list
// of (expert, panel, block), in this order, of which workers take equal stretches: so two threads balance
// even where one row chooses eight experts, and one thread reads an expert's panel once for all its rows.
#pragma once

#include "kernels/common/simd_math.h"
#include "kernels/common/simd_rows.h"
#include "kernels/linear/prepare.h"
#include "kernels/linear/tile.h"
#include "kernels/moe/moe_kernels.h"

namespace lockstep {

template <typename T>
[[gnu::always_inline]] inline T* moe_region(const MoeExpertsArgs& args, int64_t offset) {
  return reinterpret_cast<T*>(static_cast<char*>(args.workspace.data) + offset);
}

// One item of a grouped product.
struct MoeItem {
  int64_t expert = 0;
  int64_t part = 0;   // which panel, or which chunk of k
  int64_t begin = 0;  // the block's first choice in the sorted order
  int64_t rows = 0;   // of the block
};

// Calls body(item) for this worker's stretch of the items (expert, part, block), `parts` to each expert.
template <typename Body>
[[gnu::always_inline]] inline void for_moe_items(const int32_t* offsets, int64_t experts, int64_t parts,
                                                 Worker worker, Body&& body) {
  int64_t total = 0;
  for (int64_t x = 0; x < experts; ++x) total += RowBlocks{offsets[x + 1] - offsets[x]}.count() * parts;
  const Worker::Range mine = worker.share(total);
  int64_t first = 0;  // item of expert x's first part and block
  for (int64_t x = 0; x < experts && first < mine.end; ++x) {
    const RowBlocks blocks{offsets[x + 1] - offsets[x]};
    const int64_t count = blocks.count();
    const int64_t end = first + count * parts < mine.end ? first + count * parts : mine.end;
    for (int64_t item = first > mine.begin ? first : mine.begin; item < end; ++item) {
      const int64_t block = (item - first) % count;
      body(MoeItem{.expert = x,
                   .part = (item - first) / count,
                   .begin = offsets[x] + blocks.begin(block),
                   .rows = blocks.begin(block + 1) - blocks.begin(block)});
    }
    first += count * parts;
  }
}

[[gnu::always_inline]] inline const char* moe_panel(const PackedWeight& weight, int64_t expert,
                                                    int64_t panel) {
  const int64_t bytes = weight.dtype == DType::kF32 ? 4 : 2;
  return static_cast<const char*>(weight.data) + expert * weight.expert_stride * bytes +
         panel * panel_lines(weight) * kLineBytes;
}

// Rounds or copies each choice's row of x, in sorted order, in blocks.
template <typename Core>
void prepare_choices(const MoeExpertsArgs& args, Worker worker) {
  const MoeWorkspace at = moe_workspace(args);
  const int32_t* order = moe_region<const int32_t>(args, at.order);
  const int64_t words = input_words<Core>(panel_lines(args.gate_up));
  for_moe_items(moe_region<const int32_t>(args, at.offsets), args.gate_up.experts, chunks_of(words), worker,
                [&](const MoeItem& item) {
                  uint32_t* inputs = moe_region<uint32_t>(args, at.inputs) + item.begin * words;
                  for (int64_t r = 0; r < item.rows; ++r) {
                    const int64_t t = order[item.begin + r] / args.expert_ids.dim(1);
                    const float* x = static_cast<const float*>(args.x.data) + t * args.x.stride(0);
                    prepare_chunk<Core>(x, args.gate_up.k, args.input == MatmulInput::kBF16,
                                        chunk_at(item.part, words), inputs + r, item.rows);
                  }
                });
}

// activation = silu(gate) * up for 32 columns of one block. Where F is not a multiple of 32, the columns of
// up lie in two panels.
template <typename Core, typename V>
void gate_up_block(const MoeExpertsArgs& args, const MoeWorkspace& at, const MoeItem& item) {
  constexpr int64_t kInputs = Core::kPairs ? 2 : 1;
  const int64_t width = args.down.k;
  const int64_t lines = panel_lines(args.gate_up);
  const int64_t column = item.part * kPanelColumns;
  const int64_t up = width + column;
  const int64_t columns = width - column < kPanelColumns ? width - column : kPanelColumns;
  alignas(64) float gates[kBlockRows * kPanelColumns];
  alignas(64) float ups[kBlockRows * 2 * kPanelColumns];
  BlockSums job{.panel = moe_panel(args.gate_up, item.expert, item.part),
                .inputs = moe_region<const uint32_t>(args, at.inputs) + item.begin * input_words<Core>(lines),
                .rows = item.rows,
                .lines = lines,
                .sums = gates};
  sum_block<Core>(job);
  const int64_t first = up / kPanelColumns, last = (up + columns - 1) / kPanelColumns;
  job.stride = 2 * kPanelColumns;
  for (int64_t panel = first; panel <= last; ++panel) {
    job.panel = moe_panel(args.gate_up, item.expert, panel);
    job.sums = ups + (panel - first) * kPanelColumns;
    sum_block<Core>(job);
  }
  const int64_t words = input_words<Core>(panel_lines(args.down));
  const int64_t word = column / kInputs;
  const int64_t count = words - word < kPanelColumns / kInputs ? words - word : kPanelColumns / kInputs;
  uint32_t* out = moe_region<uint32_t>(args, at.activation) + item.begin * words + word * item.rows;
  for (int64_t r = 0; r < item.rows; ++r) {
    float* gate = gates + r * kPanelColumns;
    const float* row = ups + r * 2 * kPanelColumns + up % kPanelColumns;
    for_lanes<V>(columns, [&](int64_t c, int64_t n) {
      const auto product = V::mul(simd_silu<V>(load_lanes<V>(gate + c, n)), load_lanes<V>(row + c, n));
      store_lanes<V>(gate + c, product, n);
    });
    scatter_words<Core>(gate, columns, count, args.input == MatmulInput::kBF16, out + r, item.rows);
  }
}

template <typename Core, typename V>
void gate_up(const MoeExpertsArgs& args, Worker worker) {
  const MoeWorkspace at = moe_workspace(args);
  const int64_t parts = (args.down.k + kPanelColumns - 1) / kPanelColumns;
  for_moe_items(moe_region<const int32_t>(args, at.offsets), args.gate_up.experts, parts, worker,
                [&](const MoeItem& item) { gate_up_block<Core, V>(args, at, item); });
}

template <typename Core>
void down_block(const MoeExpertsArgs& args, const MoeWorkspace& at, const MoeItem& item) {
  const int64_t lines = panel_lines(args.down);
  alignas(64) float sums[kBlockRows * kPanelColumns];
  sum_block<Core>(
      {.panel = moe_panel(args.down, item.expert, item.part),
       .inputs = moe_region<const uint32_t>(args, at.activation) + item.begin * input_words<Core>(lines),
       .rows = item.rows,
       .lines = lines,
       .sums = sums});
  const int32_t* order = moe_region<const int32_t>(args, at.order);
  const int64_t column = item.part * kPanelColumns;
  const int64_t columns = args.down.n - column < kPanelColumns ? args.down.n - column : kPanelColumns;
  for (int64_t r = 0; r < item.rows; ++r) {
    float* out = moe_region<float>(args, at.products) + order[item.begin + r] * args.down.n + column;
    for (int64_t c = 0; c < columns; ++c) out[c] = sums[r * kPanelColumns + c];
  }
}

template <typename Core>
void down(const MoeExpertsArgs& args, Worker worker) {
  const MoeWorkspace at = moe_workspace(args);
  const int64_t parts = (args.down.n + kPanelColumns - 1) / kPanelColumns;
  for_moe_items(moe_region<const int32_t>(args, at.offsets), args.gate_up.experts, parts, worker,
                [&](const MoeItem& item) { down_block<Core>(args, at, item); });
}

// out[t] = the weighted sum of the row's products, in the order of its choices.
template <typename V>
void combine(const MoeExpertsArgs& args, Worker worker) {
  const int64_t live = moe_rows(args);
  const int64_t choices = args.expert_ids.dim(1);
  const int64_t width = args.down.n;
  const float* products = moe_region<const float>(args, moe_workspace(args).products);
  const Worker::Range rows = worker.share(args.x.dim(0));
  for (int64_t t = rows.begin; t < rows.end; ++t) {
    const int32_t* ids = static_cast<const int32_t*>(args.expert_ids.data) + t * args.expert_ids.stride(0);
    const float* weights =
        static_cast<const float*>(args.expert_weights.data) + t * args.expert_weights.stride(0);
    float* out = static_cast<float*>(args.out.data) + t * args.out.stride(0);
    if (t >= live) {
      zero_row<V>(out, width);
      continue;
    }
    for_lanes<V>(width, [&](int64_t e, int64_t n) {
      auto sum = V::zero();
      for (int64_t j = 0; j < choices; ++j) {
        const int64_t matrix = moe_matrix(args, ids[j]);
        if (matrix == kNotHere) continue;
        const auto product = matrix != kNoExpert ? load_lanes<V>(products + (t * choices + j) * width + e, n)
                                                 : V::set1(__builtin_nanf(""));
        sum = V::fma(V::set1(weights[j]), product, sum);
      }
      store_lanes<V>(out + e, sum, n);
    });
  }
}

}  // namespace lockstep
