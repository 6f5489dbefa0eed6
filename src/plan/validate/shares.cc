// P9: what a context-parallel rank runs of each sequence, and where the rows of all ranks are. A cut plan has
// the early chunks of all sequences, then the late ones, each as a sequence of its own.
#include <algorithm>

#include "plan/validate.h"

namespace lockstep {
namespace {

// Where chunk `c` of a run of positions ends, if its first `rows % chunks` chunks are longer by one.
Position end_of_chunk(const CpSegment& span, int32_t c, int32_t chunks) {
  const int32_t rows = span.length.get();
  return Position(span.start.get() + (c + 1) * (rows / chunks) + std::min(c + 1, rows % chunks));
}

CpSegment chunk_of(const CpSegment& span, int32_t c, int32_t chunks) {
  const Position begin = c == 0 ? span.start : end_of_chunk(span, c - 1, chunks);
  return {begin, RowCount(end_of_chunk(span, c, chunks).get() - begin.get())};
}

FixedText text_of(const CpSegment& run) { return FixedText(run.length, " from ", run.start); }

}  // namespace

bool PlanValidator::check_cut(const StepPlan& plan) {
  const int32_t ranks = plan.scalar(field::cp_ranks);
  if (ranks != 1 && ranks != limits_.cp_ranks) {
    return refuse({"P9", FieldId::cp_ranks},
                  limits_.cp_ranks == 1 ? FixedText("1, as a rank is alone")
                                        : FixedText("1 or ", limits_.cp_ranks, ", all ranks"),
                  FixedText(ranks));
  }
  const int32_t rank = plan.scalar(field::cp_rank);
  if (rank < 0 || rank >= ranks)
    return refuse({"P9", FieldId::cp_rank}, FixedText("0..", ranks - 1), FixedText(rank));
  const int32_t sequences = plan.scalar(field::num_seqs).get();
  return ranks == 1 || sequences % 2 == 0 ||
         refuse({"P9", FieldId::num_seqs}, FixedText("an early and a late chunk of each sequence"),
                FixedText(sequences));
}

// What the step computes of each sequence: all of its rows where they are not shared.
bool PlanValidator::check_spans(const StepPlan& plan) {
  const auto starts = plan.get(field::query_start_loc);
  const auto computed = plan.get(field::computed_lens);
  const auto spans = plan.get(field::cp_spans);
  const int32_t live = plan.scalar(field::num_seqs).get();
  for (int32_t s = 0; s < static_cast<int32_t>(spans.size()); ++s) {
    const auto at = static_cast<size_t>(s);
    const Where where{"P9", FieldId::cp_spans, s, GroupId(0)};
    const CpSegment& span = spans[at];
    if (s < live && cut(plan)) {
      const int64_t end = int64_t{span.start.get()} + span.length.get();
      if (span.start < Position(0) || span.length < RowCount(0) || end > limits_.max_seq_len)
        return refuse(where, FixedText("positions of 0..", limits_.max_seq_len - 1), text_of(span));
      const int32_t early = early_half(plan, s);
      if (early >= 0 && span != spans[static_cast<size_t>(early)]) {
        return refuse(where,
                      FixedText(text_of(spans[static_cast<size_t>(early)]).view(), " as in sequence ", early,
                                ", its early chunk"),
                      text_of(span));
      }
      continue;
    }
    const CpSegment all{Position(computed[at].get()), RowCount(starts[at + 1].get() - starts[at].get())};
    const CpSegment expected = s < live ? all : CpSegment{};
    if (span != expected)
      return refuse(where, FixedText(text_of(expected).view(), s < live ? "" : " in a pad sequence"),
                    text_of(span));
  }
  return true;
}

// Of each sequence a rank holds a chunk and its mirror image; one that is alone holds both halves.
bool PlanValidator::check_segments(const StepPlan& plan) {
  const auto starts = plan.get(field::query_start_loc);
  const auto computed = plan.get(field::computed_lens);
  const auto segments = plan.get(field::cp_segments);
  const int32_t live = plan.scalar(field::num_seqs).get();
  for (int32_t s = 0; s < static_cast<int32_t>(segments.size()); ++s) {
    const auto at = static_cast<size_t>(s);
    const bool shared = cut(plan) && s < live;
    const int32_t chunks = shared ? 2 * plan.scalar(field::cp_ranks) : 2;
    const int32_t rank = shared ? plan.scalar(field::cp_rank) : 0;
    const CpSegment span =
        shared ? plan.get(field::cp_spans)[at]
               : CpSegment{Position(computed[at].get()), RowCount(starts[at + 1].get() - starts[at].get())};
    const CpSegment prev = chunk_of(span, rank, chunks), next = chunk_of(span, chunks - 1 - rank, chunks);
    if (segments[at] != CpSegments{prev, next}) {
      return refuse({"P9", FieldId::cp_segments, s},
                    FixedText(text_of(prev).view(), " and ", text_of(next).view()),
                    FixedText(text_of(segments[at].prev).view(), " and ", text_of(segments[at].next).view()));
    }
    if (shared && !check_chunk(plan, s)) return false;
  }
  return true;
}

// The rows of a live sequence of a cut plan are those of its chunk.
bool PlanValidator::check_chunk(const StepPlan& plan, int32_t s) {
  const auto at = static_cast<size_t>(s);
  const bool late = early_half(plan, s) >= 0;
  const CpSegments& segments = plan.get(field::cp_segments)[at];
  const CpSegment& chunk = late ? segments.next : segments.prev;
  const std::string_view name = late ? " late" : "n early";
  const TokenCount computed = plan.get(field::computed_lens)[at];
  if (computed.get() != chunk.start.get()) {
    return refuse({"P9", FieldId::computed_lens, s},
                  FixedText(chunk.start, ", where the rank has a", name, " chunk"), FixedText(computed));
  }
  const RowOffset begin = plan.get(field::query_start_loc)[at];
  const RowOffset end = plan.get(field::query_start_loc)[at + 1];
  return end.get() - begin.get() == chunk.length.get() ||
         refuse({"P9", FieldId::query_start_loc, s + 1},
                FixedText(begin.get() + chunk.length.get(), ", as the rank has a", name, " chunk of ",
                          Counted{chunk.length.get(), "row"}),
                FixedText(end));
}

bool PlanValidator::check_gathered_slots(const StepPlan& plan, GroupId group) {
  if (cut(plan)) {
    for (int32_t rank = 0; rank < limits_.cp_ranks; ++rank) {
      if (!check_gathered_rank(plan, group, rank)) return false;
    }
    return true;
  }
  const auto slots = plan.get(field::cp_slot_mapping, group);
  const auto found =
      std::find_if(slots.begin(), slots.end(), [](SlotOrSkip slot) { return slot != SlotOrSkip::skip(); });
  return found == slots.end() ||
         refuse({"P4", FieldId::cp_slot_mapping, static_cast<int32_t>(found - slots.begin()), group},
                FixedText("SKIP, as every rank runs all rows"), FixedText(*found));
}

// The slots of what one rank brings: its chunks in the order of its rows, then SKIP in its pad rows.
bool PlanValidator::check_gathered_rank(const StepPlan& plan, GroupId group, int32_t rank) {
  const TableMirror& mirror = mirrors_[static_cast<size_t>(group.get())];
  const auto slots = plan.get(field::cp_slot_mapping, group);
  const int32_t chunks = 2 * limits_.cp_ranks;
  const int32_t page_tokens = limits_.group(group).page_tokens;
  const int32_t end = (rank + 1) * plan.bucket().rows.get();
  int32_t row = end - plan.bucket().rows.get();
  for (const int32_t c : {rank, chunks - 1 - rank}) {
    for (int32_t s = 0; s < whole_sequences(plan); ++s) {
      const auto at = static_cast<size_t>(s);
      const CpSegment chunk = chunk_of(plan.get(field::cp_spans)[at], c, chunks);
      if (chunk.length.get() > end - row) {
        return refuse({"P9", FieldId::num_rows_padded}, FixedText("at least the rows of rank ", rank),
                      FixedText(plan.bucket().rows));
      }
      const TableRow table_row = plan.get(field::table_rows, group)[at];
      for (int32_t i = 0; i < chunk.length.get(); ++i, ++row) {
        const int32_t position = chunk.start.get() + i, offset = position % page_tokens;
        const int64_t page = mirror.page(table_row, position / page_tokens).get();
        const SlotOrSkip expected(page * page_tokens + offset);
        if (slots[static_cast<size_t>(row)] != expected) {
          return refuse({"P4", FieldId::cp_slot_mapping, row, group},
                        FixedText(expected, " = page ", page, " * ", page_tokens, " + ", offset),
                        FixedText(slots[static_cast<size_t>(row)]));
        }
      }
    }
  }
  for (; row < end; ++row) {
    if (slots[static_cast<size_t>(row)] != SlotOrSkip::skip()) {
      return refuse({"P4", FieldId::cp_slot_mapping, row, group},
                    FixedText("SKIP in a pad row of rank ", rank),
                    FixedText(slots[static_cast<size_t>(row)]));
    }
  }
  return true;
}

// The chunks of a sequence run one after the other, on whichever rank, and hand on one state: each ends by
// writing the slot that the next one reads.
bool PlanValidator::check_handed_on_states(const StepPlan& plan) {
  const auto starts = plan.get(field::query_start_loc);
  const auto writes = plan.get(field::state_write_slots);
  const auto reads = plan.get(field::state_read_slot);
  for (int32_t s = 0; s < plan.scalar(field::num_seqs).get(); ++s) {
    const auto at = static_cast<size_t>(s);
    const int32_t end = starts[at + 1].get();
    for (int32_t row = starts[at].get(); row < end; ++row) {
      const StateSlotOrSkip slot = writes[static_cast<size_t>(row)];
      const bool writes_it = row + 1 == end && state_slots_ > 0;
      if (slot == (writes_it ? StateSlotOrSkip(reads[at]) : StateSlotOrSkip::skip())) continue;
      return refuse({"P5", FieldId::state_write_slots, row, GroupId(0)},
                    writes_it ? FixedText(reads[at], ", the state slot of sequence ", s)
                              : FixedText("SKIP before the last row of a chunk"),
                    FixedText(slot));
    }
  }
  return true;
}

// Entry r names the last row of a sequence where its owner has it, and that rank; one walk over the sequences
// counts the rows of every rank and so finds the owner of each.
bool PlanValidator::check_shared_logits_rows(const StepPlan& plan) {
  const auto spans = plan.get(field::cp_spans);
  const int32_t ranks = limits_.cp_ranks, chunks = 2 * ranks;
  const int32_t sequences = whole_sequences(plan), padded = plan.bucket().logits_rows.get();
  std::fill(passed_.begin(), passed_.end(), Passed{});
  for (int32_t rank = 0; rank < ranks; ++rank) {
    for (int32_t s = 0; s < sequences; ++s)  // a rank's late rows come after all its early ones
      passed_[static_cast<size_t>(rank)].late +=
          chunk_of(spans[static_cast<size_t>(s)], rank, chunks).length.get();
  }
  int32_t s = 0;
  for (int32_t r = 0; r < plan.scalar(field::num_logits_rows).get(); ++r) {
    const int32_t row = plan.get(field::logits_rows)[static_cast<size_t>(r)].get();
    const int32_t place = plan.get(field::cp_logits_rows)[static_cast<size_t>(r)].get() - r;
    if (place < 0 || place % padded != 0 || place / padded >= ranks) {
      return refuse({"GEO", FieldId::cp_logits_rows, r},
                    FixedText("a rank of 0..", ranks - 1, " * ", padded, " + ", r),
                    FixedText(plan.get(field::cp_logits_rows)[static_cast<size_t>(r)]));
    }
    bool found = false;
    for (; s < sequences && !found; ++s) {
      const CpSegment& span = spans[static_cast<size_t>(s)];
      for (int32_t rank = 0; rank < ranks; ++rank) {
        Passed& passed = passed_[static_cast<size_t>(rank)];
        passed.early += chunk_of(span, rank, chunks).length.get();
        passed.late += chunk_of(span, chunks - 1 - rank, chunks).length.get();
      }
      const int32_t last = std::min(chunks, span.length.get()) - 1;
      const int32_t owner = std::min(last, chunks - 1 - last);
      if (last < 0 || owner != place / padded) continue;
      const Passed& passed = passed_[static_cast<size_t>(owner)];
      found = row == (last == owner ? passed.early : passed.late) - 1;
    }
    if (!found) {
      return refuse({"GEO", FieldId::logits_rows, r},
                    FixedText("the last row of a sequence, on the rank that has it",
                              r > 0 ? ", past those of the entries before" : ""),
                    FixedText(row, " of rank ", place / padded));
    }
    if (!check_logits_row(plan, r, s - 1)) return false;
  }
  return true;
}

}  // namespace lockstep
