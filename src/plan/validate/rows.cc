// P1: who owns each row, and its token. P2: lengths and positions. Geometry.
#include <algorithm>

#include "plan/validate.h"

namespace lockstep {

bool PlanValidator::check_epoch(const StepPlan& plan) {
  const Epoch epoch = plan.scalar(field::epoch);
  return epoch > last_epoch_ ||
         refuse({"GEO", FieldId::epoch}, FixedText("more than ", last_epoch_, ", the epoch before"),
                FixedText(epoch));
}

bool PlanValidator::check_starts(const StepPlan& plan) {
  const auto starts = plan.get(field::query_start_loc);
  const int32_t rows = plan.scalar(field::num_rows).get();
  const int32_t padded = plan.bucket().rows.get();
  const auto where = [](size_t at) {
    return Where{"P1", FieldId::query_start_loc, static_cast<int32_t>(at), GroupId(0)};
  };
  if (starts[0] != RowOffset(0)) return refuse(where(0), FixedText("0"), FixedText(starts[0]));
  for (size_t s = 1; s < starts.size(); ++s) {
    if (starts[s] < starts[s - 1]) {
      return refuse(where(s), FixedText("at least ", starts[s - 1], ", where sequence ", s - 1, " begins"),
                    FixedText(starts[s]));
    }
  }
  const auto live = static_cast<size_t>(plan.scalar(field::num_seqs).get());
  const int32_t owned = starts[live].get();
  if (owned < rows) {
    return refuse(where(live), FixedText("num_rows = ", rows),
                  FixedText(owned, ", so rows ", owned, "..", rows - 1, " belong to no sequence"));
  }
  if (owned > rows) {
    return refuse(where(live), FixedText("num_rows = ", rows),
                  FixedText(owned, ", so rows ", rows, "..", owned - 1, " of live sequences count as pads"));
  }
  const int32_t last = starts.back().get();
  if (last < padded) {
    return refuse(where(starts.size() - 1), FixedText("num_rows_padded = ", padded),
                  FixedText(last, ", so rows ", last, "..", padded - 1, " belong to no sequence"));
  }
  return last == padded || refuse(where(starts.size() - 1), FixedText("num_rows_padded = ", padded),
                                  FixedText(last, ", past the rows of the bucket"));
}

bool PlanValidator::check_pad_rows(const StepPlan& plan) {
  const auto starts = plan.get(field::query_start_loc);
  const auto live = static_cast<size_t>(plan.scalar(field::num_seqs).get());
  bool one_row_each = true;
  for (size_t s = 0; s < live; ++s) one_row_each = one_row_each && starts[s + 1].get() == starts[s].get() + 1;
  const int32_t missing = plan.bucket().rows.get() - starts[live].get();
  const int32_t free_seqs = plan.bucket().seqs.get() - static_cast<int32_t>(live);
  const int32_t most = one_row_each && missing <= free_seqs ? 1 : rows_per_pad_;
  for (size_t s = live; s + 1 < starts.size(); ++s) {
    if (starts[s + 1].get() - starts[s].get() > most) {
      return refuse({"P1", FieldId::query_start_loc, static_cast<int32_t>(s + 1)},
                    FixedText("at most ", starts[s].get() + most, ", for a pad sequence has at most ",
                              Counted{most, "row"}, " in this bucket"),
                    FixedText(starts[s + 1]));
    }
  }
  return true;
}

bool PlanValidator::check_tokens(const StepPlan& plan) {
  const auto ids = plan.get(field::token_ids);
  const auto sources = plan.get(field::token_source);
  const Epoch epoch = plan.scalar(field::epoch);
  const Epoch source_epoch = plan.scalar(field::source_epoch);
  const auto rows = static_cast<size_t>(plan.scalar(field::num_rows).get());
  // Of a step that this validator has seen, the logits rows are known; of another, their limit.
  const int32_t logits_rows =
      last_epoch_.get() + 1 == epoch.get() ? last_logits_rows_.get() : limits_.max_logits_rows;
  bool sourced = false;
  for (size_t row = 0; row < rows; ++row) {
    const auto at = static_cast<int32_t>(row);
    if (ids[row] < TokenId(0) || ids[row] >= TokenId(limits_.vocab_size)) {
      return refuse({"P1", FieldId::token_ids, at},
                    FixedText("0..", limits_.vocab_size - 1, ", an entry of the vocabulary"),
                    FixedText(ids[row]));
    }
    if (sources[row] == TokenSource::literal()) continue;
    sourced = true;
    if (sources[row].is_literal() || sources[row].logits_row() >= logits_rows) {
      return refuse(
          {"P1", FieldId::token_source, at},
          FixedText("literal, or one of ", Counted{logits_rows, "logits row"}, " of the step before"),
          FixedText(sources[row]));
    }
  }
  for (size_t row = rows; row < ids.size(); ++row) {
    if (ids[row] != TokenId(0)) {
      return refuse({"P1", FieldId::token_ids, static_cast<int32_t>(row)}, FixedText("0 in a pad row"),
                    FixedText(ids[row]));
    }
  }
  const Epoch expected = sourced ? Epoch(epoch.get() - 1) : Epoch(0);
  return source_epoch == expected ||
         refuse({"P1", FieldId::source_epoch},
                sourced ? FixedText(expected, ", the step before, as tokens come from it")
                        : FixedText("0, as every token is literal"),
                FixedText(source_epoch));
}

bool PlanValidator::check_lengths(const StepPlan& plan) {
  const auto starts = plan.get(field::query_start_loc);
  const auto computed = plan.get(field::computed_lens);
  const auto lengths = plan.get(field::seq_lens);
  const auto live = static_cast<size_t>(plan.scalar(field::num_seqs).get());
  for (size_t s = 0; s < lengths.size(); ++s) {
    const auto at = static_cast<int32_t>(s);
    if (computed[s] < TokenCount(0) || (s >= live && computed[s] != TokenCount(0))) {
      return refuse({"P2", FieldId::computed_lens, at},
                    s < live ? FixedText("at least 0") : FixedText("0 in a pad sequence"),
                    FixedText(computed[s]));
    }
    const int32_t rows = starts[s + 1].get() - starts[s].get();
    const int64_t length = int64_t{computed[s].get()} + rows;
    if (lengths[s].get() != length) {
      return refuse({"P2", FieldId::seq_lens, at},
                    FixedText(length, " = computed ", computed[s], " + rows ", rows), FixedText(lengths[s]));
    }
    if (length > limits_.max_seq_len) {
      return refuse({"P2", FieldId::seq_lens, at}, FixedText("at most max_seq_len = ", limits_.max_seq_len),
                    FixedText(length));
    }
  }
  return true;
}

bool PlanValidator::check_positions(const StepPlan& plan) {
  const auto starts = plan.get(field::query_start_loc);
  const auto computed = plan.get(field::computed_lens);
  const auto positions = plan.get(field::positions);
  for (size_t s = 0; s < computed.size(); ++s) {
    const int32_t first = starts[s].get();
    for (int32_t row = first; row < starts[s + 1].get(); ++row) {
      const Position expected(computed[s].get() + (row - first));
      if (positions[static_cast<size_t>(row)] != expected) {
        return refuse({"P2", FieldId::positions, row},
                      FixedText(expected, " = computed ", computed[s], " + ", row - first),
                      FixedText(positions[static_cast<size_t>(row)]));
      }
    }
  }
  return true;
}

bool PlanValidator::check_prompts(const StepPlan& plan) {
  const auto prompts = plan.get(field::prompt_lens);
  const auto live = static_cast<size_t>(plan.scalar(field::num_seqs).get());
  for (size_t s = 0; s < prompts.size(); ++s) {
    const bool fits = s < live ? prompts[s] > TokenCount(0) && prompts[s] <= TokenCount(limits_.max_seq_len)
                               : prompts[s] == TokenCount(0);
    if (!fits) {
      return refuse({"P2", FieldId::prompt_lens, static_cast<int32_t>(s)},
                    s < live ? FixedText("1..", limits_.max_seq_len, " as max_seq_len allows")
                             : FixedText("0 in a pad sequence"),
                    FixedText(prompts[s]));
    }
    const int32_t early = early_half(plan, static_cast<int32_t>(s));
    if (early >= 0 && prompts[s] != prompts[static_cast<size_t>(early)]) {
      return refuse(
          {"P2", FieldId::prompt_lens, static_cast<int32_t>(s)},
          FixedText(prompts[static_cast<size_t>(early)], " as in sequence ", early, ", its early chunk"),
          FixedText(prompts[s]));
    }
  }
  return true;
}

bool PlanValidator::check_longest(const StepPlan& plan) {
  const auto starts = plan.get(field::query_start_loc);
  int32_t longest_query = 0, longest = 0;
  for (size_t s = 0; s + 1 < starts.size(); ++s)
    longest_query = std::max(longest_query, starts[s + 1].get() - starts[s].get());
  for (const TokenCount length : plan.get(field::seq_lens)) longest = std::max(longest, length.get());
  if (plan.scalar(field::max_query_len) != RowCount(longest_query)) {
    return refuse({"P2", FieldId::max_query_len}, FixedText(longest_query, ", the rows of the longest query"),
                  FixedText(plan.scalar(field::max_query_len)));
  }
  return plan.scalar(field::max_seq_len) == TokenCount(longest) ||
         refuse({"P2", FieldId::max_seq_len}, FixedText(longest, ", the largest of seq_lens"),
                FixedText(plan.scalar(field::max_seq_len)));
}

bool PlanValidator::check_geometry(const StepPlan& plan) {
  const auto starts = plan.get(field::query_start_loc);
  bool single = false, several = false;
  int32_t uniform = -1;
  for (size_t s = 0; s + 1 < starts.size(); ++s) {
    const int32_t rows = starts[s + 1].get() - starts[s].get();
    if (rows == 0) continue;
    uniform = uniform == -1 || uniform == rows ? rows : 0;
  }
  uniform = std::max(uniform, 0);
  for (int32_t s = 0; s < whole_sequences(plan); ++s) {
    const int32_t rows = plan.get(field::cp_spans)[static_cast<size_t>(s)].length.get();
    if (rows > 0) (rows == 1 ? single : several) = true;
  }
  const Phase phase = single && several ? Phase::kMixed
                      : single          ? Phase::kDecode
                      : several         ? Phase::kPrefill
                                        : Phase::kIdle;
  const int32_t found = plan.scalar(field::phase);
  if (found != static_cast<int32_t>(phase)) {
    return refuse({"GEO", FieldId::phase}, FixedText(static_cast<int32_t>(phase), ", ", name_of(phase)),
                  FixedText(found, ", ", name_of(static_cast<Phase>(found))));
  }
  if (cut(plan) && !several) {
    return refuse({"P9", FieldId::cp_ranks}, FixedText("1, as no sequence has rows to share"),
                  FixedText(plan.scalar(field::cp_ranks)));
  }
  if (plan.scalar(field::uniform_query_len) != RowCount(uniform)) {
    return refuse({"GEO", FieldId::uniform_query_len},
                  uniform > 0 ? FixedText(uniform, ", the rows of every sequence that has any")
                              : FixedText("0, as the sequences differ"),
                  FixedText(plan.scalar(field::uniform_query_len)));
  }
  const auto ranks = plan.get(field::dp_row_counts);
  for (size_t r = 0; r < ranks.size(); ++r) {
    if (ranks[r] < PaddedRows(0) || ranks[r] > PaddedRows(limits_.max_rows)) {
      return refuse({"GEO", FieldId::dp_row_counts, static_cast<int32_t>(r)},
                    FixedText("0..", limits_.max_rows, " as max_rows allows"), FixedText(ranks[r]));
    }
  }
  const bool own = std::find(ranks.begin(), ranks.end(), plan.bucket().rows) != ranks.end();
  return own || refuse({"GEO", FieldId::dp_row_counts},
                       FixedText("num_rows_padded = ", plan.bucket().rows, " for the rank of this plan"),
                       FixedText(ranks[0]));
}

}  // namespace lockstep
