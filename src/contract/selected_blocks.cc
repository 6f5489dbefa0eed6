#include "contract/selected_blocks.h"

#include <algorithm>

#include "base/math.h"
#include "plan/step_plan.h"

namespace lockstep {
namespace {

constexpr FieldId kSources[] = {FieldId::query_start_loc, FieldId::seq_lens, FieldId::prompt_lens,
                                FieldId::num_rows, FieldId::num_seqs};

int64_t room_for_lists(const StepLimits& limits) {
  return int64_t{limits.max_rows} * limits.selection.kv_heads;
}
int64_t room_for_starts(const StepLimits& limits) { return room_for_lists(limits) + 1; }
int64_t room_for_blocks(const StepLimits& limits) {
  return room_for_lists(limits) * limits.selection.most_blocks;
}

int64_t live_lists(const StepLimits& limits, const StepPlan& plan) {
  return int64_t{plan.scalar(field::num_rows).get()} * limits.selection.kv_heads;
}
int64_t live_starts(const StepLimits& limits, const StepPlan& plan) { return live_lists(limits, plan) + 1; }
int64_t live_blocks(const StepLimits& limits, const StepPlan& plan) {
  const auto starts = plan.get(field::query_start_loc);
  const auto lengths = plan.get(field::seq_lens), prompts = plan.get(field::prompt_lens);
  int64_t blocks = 0;
  for (size_t s = 0; s < static_cast<size_t>(plan.scalar(field::num_seqs).get()); ++s) {
    const int32_t rows = starts[s + 1].get() - starts[s].get();
    for (int32_t i = 0; i < rows; ++i)
      blocks += selected_count(limits.selection, lengths[s].get() - rows + i, prompts[s].get());
  }
  return blocks * limits.selection.kv_heads;
}

DerivedSpec::Range range_of_counts(const StepLimits& limits, const StepPlan& /*plan*/) {
  return {0, limits.selection.most_blocks + 1};
}
DerivedSpec::Range range_of_starts(const StepLimits& limits, const StepPlan& plan) {
  return {0, static_cast<int32_t>(live_blocks(limits, plan)) + 1};
}
DerivedSpec::Range range_of_blocks(const StepLimits& limits, const StepPlan& /*plan*/) {
  return {0, ceil_div(limits.max_seq_len, limits.selection.block_tokens)};
}

// Of the list of a row and kv head: no block behind the row's own.
int32_t end_of_list(const StepLimits& limits, const StepPlan& plan, int64_t piece) {
  const auto row = static_cast<size_t>(piece / limits.selection.kv_heads);
  return plan.get(field::positions)[row].get() / limits.selection.block_tokens + 1;
}

}  // namespace

int32_t selected_count(const SelectionLimits& limits, int32_t position, int32_t prompt_len) {
  if (std::max(position + 1, prompt_len) < limits.dense_len) return 0;
  return std::min(position / limits.block_tokens + 1, limits.most_blocks);
}

const DerivedSpec kSelectedCounts{.name = "selected_counts",
                                  .maker = DerivedMaker::kDevice,
                                  .unit = Unit::kNone,
                                  .form = Form::kPerRow,
                                  .rule = DerivedRule::kRange,
                                  .sources = kSources,
                                  .capacity = room_for_lists,
                                  .range = range_of_counts,
                                  .live = live_lists};

const DerivedSpec kSelectedStarts{.name = "selected_starts",
                                  .maker = DerivedMaker::kDevice,
                                  .unit = Unit::kNone,
                                  .form = Form::kPerRow,
                                  .rule = DerivedRule::kPrefixSum,
                                  .sources = kSources,
                                  .of = &kSelectedCounts,
                                  .capacity = room_for_starts,
                                  .range = range_of_starts,
                                  .live = live_starts};

const DerivedSpec kSelectedBlocks{.name = "selected_blocks",
                                  .maker = DerivedMaker::kDevice,
                                  .unit = Unit::kNone,
                                  .form = Form::kPerRow,
                                  .rule = DerivedRule::kAscending,
                                  .sources = kSources,
                                  .of = &kSelectedStarts,
                                  .capacity = room_for_blocks,
                                  .range = range_of_blocks,
                                  .piece_end = end_of_list,
                                  .live = live_blocks};

std::span<const DerivedSpec* const> selected_block_fields() {
  static constexpr const DerivedSpec* kAll[] = {&kSelectedCounts, &kSelectedStarts, &kSelectedBlocks};
  return kAll;
}

}  // namespace lockstep
