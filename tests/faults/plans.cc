#include "faults/plans.h"

#include <algorithm>
#include <cstring>

#include "base/math.h"

namespace lockstep::faults {
namespace {

constexpr int32_t kSequences = 128;
constexpr int32_t kMaxLength = 2048;

void fill_pad(const FieldInfo& info, std::byte* entry) {
  const auto put = [entry](auto value) { std::memcpy(entry, &value, sizeof(value)); };
  if (info.pad == Pad::kNone || info.pad == Pad::kSequence) return;
  switch (info.element) {
    case Element::kF32: return put(static_cast<float>(info.pad_value));
    case Element::kI64: return put(int64_t{info.pad_value});
    case Element::kU64: return put(static_cast<uint64_t>(info.pad_value));
    default: return put(info.pad_value);
  }
}

}  // namespace

StepLimits small_limits() {
  StepLimits limits{.max_rows = 2048,
                    .max_seqs = kSequences,
                    .max_logits_rows = kSequences,
                    .max_seq_len = kMaxLength,
                    .max_edits = 1024,
                    .max_copies = 8,
                    .vocab_size = 1000,
                    .num_groups = 3};
  const CacheGroup pages{.page_tokens = kPageTokens,
                         .kernel_page_tokens = kPageTokens,
                         .num_pages = 4096,
                         .table_rows = kSequences + 1,
                         .max_pages_per_seq = kMaxLength / kPageTokens};
  limits.groups[0] = limits.groups[2] = pages;
  limits.groups[1] = {.kind = GroupKind::kState, .num_pages = 2 * kSequences};
  return limits;
}

Plans::Plans(const StepLimits& limits)
    : limits_(limits),
      kv_(limits.group(kKv).table_rows, limits.group(kKv).max_pages_per_seq),
      window_(limits.group(kKv).table_rows, limits.group(kKv).max_pages_per_seq),
      builder_(limits, {&kv_, nullptr, &window_}),
      validator_(limits),
      lengths_(kSequences) {
  for (int32_t i = 0; i < limits.max_rows; ++i) tokens_.emplace_back(i % limits.vocab_size);
}

StepPlan Plans::next(std::span<const Share> shares, const StepOptions& options) {
  std::vector<SequenceStep> steps;
  int32_t rows = 0, logits_rows = 0;
  for (const Share& share : shares) {
    const TableRow table_row(share.sequence + 1);
    const int32_t computed = length(share.sequence);
    while (static_cast<int32_t>(kv_.pages(table_row).size()) * kPageTokens < computed + share.rows) {
      kv_.append(table_row, PageId(++last_page_));
      window_.append(table_row, PageId(last_page_));
    }
    SequenceStep step{.tokens = std::span(tokens_).first(static_cast<size_t>(share.rows)),
                      .computed = TokenCount(computed),
                      .prompt_len = TokenCount(1),
                      .state_slot = StateSlot(limits_.num_groups > 1 ? share.sequence + 1 : 0),
                      .wants_logits = share.rows > 0};
    step.table_rows[0] = step.table_rows[2] = table_row;
    steps.push_back(step);
    rows += share.rows;
    logits_rows += step.wants_logits ? 1 : 0;
  }
  shares_.assign(shares.begin(), shares.end());
  const auto seqs = static_cast<int32_t>(shares.size());
  StepRequest request{.epoch = Epoch(++epoch_),
                      .sequences = steps,
                      .bucket = options.bucket.value_or(bucket(rows, seqs, logits_rows))};
  request.copies[1] = options.state_copies;
  StepPlan plan;
  const Status built = builder_.build(request, plan);
  LS_CHECK(built.ok(), built.message());
  return plan;
}

Status Plans::run(StepPlan& plan) {
  plan.freeze();
  LS_TRY(validator_.validate(plan));
  builder_.accepted();
  for (const Share& share : shares_) lengths_[static_cast<size_t>(share.sequence)] += share.rows;
  return {};
}

void Plans::run_right(std::initializer_list<Share> shares, const StepOptions& options) {
  StepPlan plan = next(shares, options);
  const Status valid = run(plan);
  LS_CHECK(valid.ok(), valid.message());
}

void Plans::set_length(int32_t sequence, int32_t tokens) { lengths_[static_cast<size_t>(sequence)] = tokens; }

void Plans::restart(int32_t sequence) {
  kv_.clear(TableRow(sequence + 1));
  window_.clear(TableRow(sequence + 1));
  set_length(sequence, 0);
}

StepPlan with_tails(const StepPlan& plan, const StepLimits& limits, const Bucket& larger) {
  StepPlan out;
  out.reset(limits, larger);
  const auto image = const_cast<std::byte*>(out.image().data());
  for (const FieldInfo& info : kFields) {
    for (int32_t g = 0; g < limits.num_groups; ++g) {
      const ImageLayout::Place& from = plan.layout().place(info.id, GroupId(g));
      const ImageLayout::Place& to = out.layout().place(info.id, GroupId(g));
      if (to.offset < 0 || from.offset < 0) continue;
      const auto bytes = static_cast<size_t>(info.element_bytes);
      std::memcpy(image + to.offset, plan.image().data() + from.offset,
                  static_cast<size_t>(from.count) * bytes);
      for (int32_t i = from.count; i < to.count; ++i)
        fill_pad(info, image + to.offset + static_cast<size_t>(i) * bytes);
    }
  }
  const auto starts = out.edit(field::query_start_loc);
  const size_t known = plan.get(field::query_start_loc).size();
  std::fill(starts.begin() + static_cast<int64_t>(known), starts.end(), starts[known - 1]);
  out.edit(field::num_rows_padded)[0] = larger.rows;
  out.edit(field::num_seqs_padded)[0] = larger.seqs;
  out.edit(field::num_logits_rows_padded)[0] = larger.logits_rows;
  for (PaddedRows& count : out.edit(field::dp_row_counts)) count = larger.rows;
  return out;
}

}  // namespace lockstep::faults
