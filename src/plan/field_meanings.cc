#include "plan/fields.h"

namespace lockstep {

std::string_view meaning_of(FieldId id) {
  switch (id) {
    case FieldId::token_ids: return "vocabulary entry that the row embeds, where its source is the literal";
    case FieldId::token_source: return "the literal, or the logits row of step `source_epoch` that draws it";
    case FieldId::positions: return "the token's place in its own sequence, from 0";
    case FieldId::state_write_slots: return "recurrent state slot that holds the state after this row";
    case FieldId::slot_mapping: return "page * page tokens + offset: where the row's keys and values go";
    case FieldId::cp_slot_mapping: return "`slot_mapping` of all ranks, rank by rank; SKIP: not shared";
    case FieldId::query_start_loc:
      return "first row of each sequence; the last entry is the padded row count";
    case FieldId::seq_lens: return "tokens a sequence may look at, those of this step included";
    case FieldId::computed_lens: return "tokens whose keys, values and states earlier steps have cached";
    case FieldId::prompt_lens: return "tokens the request came with";
    case FieldId::state_read_slot: return "recurrent state slot that holds the state before the first row";
    case FieldId::has_initial_state:
      return "1 where the read slot holds the sequence's state, 0 at its start";
    case FieldId::penalty_slots: return "row of token counts for the penalties; -1: none";
    case FieldId::cp_segments:
      return "early and late run of positions of the sequence that the rank's rows are";
    case FieldId::cp_spans: return "positions of the sequence that the step computes, on all ranks together";
    case FieldId::table_rows: return "row of the device-resident page table";
    case FieldId::table_digests:
      return "digest of the ceil(seq_len / page tokens) entries the row is read for";
    case FieldId::logits_rows:
      return "last row of a live sequence, whose logits are computed, where it is run";
    case FieldId::cp_logits_rows: return "rank that runs the row * padded logits rows + entry; -1: all do";
    case FieldId::temperature: return "divisor of the logits; 0: greedy";
    case FieldId::top_k: return "how many of the best stay in the draw; 0: all";
    case FieldId::top_p: return "probability mass that stays in the draw; 1: all";
    case FieldId::min_p: return "least probability, relative to the best, that stays in the draw; 0: all";
    case FieldId::repetition_penalty: return "divisor of the logits of tokens seen; 1: off";
    case FieldId::presence_penalty: return "subtracted once from the logits of generated tokens; 0: off";
    case FieldId::frequency_penalty: return "subtracted per occurrence among generated tokens; 0: off";
    case FieldId::seed: return "seed of the row's draw";
    case FieldId::sample_positions: return "position of the token to be drawn: one past the row's own";
    case FieldId::sample_penalty_slots: return "penalty slot of the logits row's sequence; -1: none";
    case FieldId::mask_slots: return "row of allowed-token masks; -1: every token is allowed";
    case FieldId::logprobs: return "how many of the best to report; -1: none";
    case FieldId::table_edits: return "new page table entries (row, index, page), applied before any read";
    case FieldId::copies: return "pages or state slots (source, target) copied before anything else";
    case FieldId::dp_row_counts: return "padded rows of each data-parallel rank";
    case FieldId::epoch: return "number of the forward pass, from 1, never reused";
    case FieldId::source_epoch: return "the step whose logits rows `token_source` names; 0: none";
    case FieldId::num_rows: return "rows that belong to a sequence";
    case FieldId::num_seqs: return "sequences that are not padding";
    case FieldId::num_logits_rows: return "logits rows that draw a token";
    case FieldId::max_seq_len: return "the largest of `seq_lens`";
    case FieldId::num_table_edits: return "entries of `table_edits`";
    case FieldId::num_copies: return "entries of `copies`";
    case FieldId::phase: return "0 idle, 1 decode (one row per sequence), 2 prefill (more than one), 3 mixed";
    case FieldId::num_rows_padded: return "rows of the bucket";
    case FieldId::num_seqs_padded: return "sequences of the bucket";
    case FieldId::num_logits_rows_padded: return "logits rows of the bucket";
    case FieldId::max_query_len: return "the most rows of one sequence, pad sequences included";
    case FieldId::cp_ranks: return "context-parallel ranks that share the rows; 1: each runs all of them";
    case FieldId::cp_rank: return "which of them this plan is for; 0 where every rank runs all rows";
    case FieldId::uniform_query_len: return "rows of every sequence that has any; 0: they differ";
  }
  return "unknown";
}

}  // namespace lockstep
