#include "kernels/block_selection/block_lists.h"

#include <algorithm>
#include <functional>

namespace lockstep {
namespace {

// Live rows of one sequence, as the plan has them.
struct SequenceRows {
  int64_t first = 0;   // row of the step
  int64_t count = 0;   // live ones
  int64_t cached = 0;  // tokens before the first row: its position
  int64_t prompt = 0;
};

SequenceRows rows_of(const SelectBlocksArgs& args, int64_t s) {
  const auto* starts = args.query_start_loc.as<const int32_t>();
  const int64_t begin = starts[s], end = starts[s + 1], live = args.num_rows->get();
  return {.first = begin,
          .count = std::max<int64_t>(0, std::min(end, live) - begin),
          .cached = args.seq_lens.as<const int32_t>()[s] - (end - begin),
          .prompt = args.prompt_lens.as<const int32_t>()[s]};
}

// Whether a list holds every block up to its row's own.
bool holds_all(int64_t position, int64_t count) { return count == position / kBlockTokens + 1; }

}  // namespace

BlockLists::BlockLists(const SelectBlocksArgs& args, Worker worker)
    : args_(args), worker_(worker), kv_heads_(args.k1.dim(1)) {
  int64_t total = 0;
  for (int64_t s = 0; s < args.num_seqs->get(); ++s) {
    const SequenceRows rows = rows_of(args, s);
    for (int64_t i = 0; i < rows.count; ++i) {
      const int64_t position = rows.cached + i;
      total += kv_heads_ * cost_of(position, length_of(position, rows.prompt));
    }
  }
  begin_ = total * worker.index / worker.count;
  end_ = total * (worker.index + 1) / worker.count;
}

int64_t BlockLists::length_of(int64_t position, int64_t prompt_len) const {
  if (std::max(prompt_len, position + 1) < args_.dense_len) return 0;
  return std::min<int64_t>(args_.most_blocks, position / kBlockTokens + 1);
}

// In compressed keys: what is read where scores decide; one for writing a list down.
int64_t BlockLists::cost_of(int64_t position, int64_t count) const {
  return count == 0 || holds_all(position, count) ? 1 : 1 + position / 16;
}

bool BlockLists::next(BlockList& list) {
  auto* counts = args_.counts.as<int32_t>();
  auto* starts = args_.starts.as<int32_t>();
  for (; sequence_ < args_.num_seqs->get(); ++sequence_, row_ = 0) {
    const SequenceRows rows = rows_of(args_, sequence_);
    for (; row_ < rows.count; ++row_, kv_head_ = 0) {
      const int64_t position = rows.cached + row_, count = length_of(position, rows.prompt);
      while (kv_head_ < kv_heads_) {
        const bool mine = cost_ >= begin_ && cost_ < end_;
        list = {.sequence = sequence_,
                .row = rows.first + row_,
                .kv_head = kv_head_++,
                .position = position,
                .count = count,
                .blocks = args_.blocks.as<int32_t>() + entries_};
        cost_ += cost_of(position, count);
        if (mine) {
          counts[lists_] = static_cast<int32_t>(count);
          starts[lists_] = static_cast<int32_t>(entries_);
        }
        entries_ += count;
        ++lists_;
        if (!mine || count == 0) continue;
        if (!holds_all(position, count)) return true;
        for (int64_t i = 0; i < count; ++i) list.blocks[i] = static_cast<int32_t>(i);
      }
    }
  }
  finish();
  return false;
}

// What no list has, part of it per worker.
void BlockLists::finish() const {
  const auto fill = [&](const TensorView& view, int64_t from, int64_t value) {
    const auto [begin, end] = worker_.share(view.dim(0) - from);
    std::fill(view.as<int32_t>() + from + begin, view.as<int32_t>() + from + end,
              static_cast<int32_t>(value));
  };
  fill(args_.counts, lists_, 0);
  fill(args_.starts, lists_, entries_);
  fill(args_.blocks, entries_, 0);
}

// What the forced blocks leave goes to the best of the others: all above the score of the first one that does
// not fit, and of its equals the lowest. Precondition: there are more others than fit.
void choose_blocks(const SelectBlocksArgs& args, const BlockList& list, const WindowScores& scores) {
  const int64_t own = list.position / kBlockTokens;
  const int64_t first = args.init_blocks, last = own - args.window_blocks;  // that scores decide about
  for (int64_t b = first; b < last; ++b) {
    float best = 0.0f;  // no score is below
    for (int64_t j = std::max<int64_t>(0, 4 * b - 1); j <= std::min(4 * b + 3, scores.count - 1); ++j)
      best = std::max(best, scores.scores[j]);
    scores.pooled[b] = scores.ranked[b - first] = best;
  }
  const int64_t others = last - first, free = list.count - (own + 1 - others);
  // The best of those that do not fit: what is above it fits.
  std::nth_element(scores.ranked, scores.ranked + free, scores.ranked + others, std::greater<>());
  const float least = scores.ranked[free];
  int64_t ties = free - std::count_if(scores.pooled + first, scores.pooled + last,
                                      [least](float score) { return score > least; });
  int32_t* out = list.blocks;
  for (int64_t b = 0; b <= own; ++b) {
    const bool decided = b >= first && b < last;
    const bool tie = decided && scores.pooled[b] == least && ties > 0;
    ties -= tie ? 1 : 0;
    if (!decided || tie || scores.pooled[b] > least) *out++ = static_cast<int32_t>(b);
  }
}

}  // namespace lockstep
