// P1, P2, P9, P10 and geometry: each rule broken in many random plans.
#include "plan/validate/mutations.h"

namespace lockstep {
namespace {

constexpr Mutation kStarts[] = {
    {"the first sequence begins past row 0",
     [](Draft& draft) -> Expected {
       draft.at(field::query_start_loc, 0) = RowOffset(1);
       return broken("P1", FieldId::query_start_loc, 0, "0", "1");
     }},
    {"a sequence ends before it begins",
     [](Draft& draft) -> Expected {
       const int32_t s = draft.any(draft.seqs_padded());
       if (s < 0) return {};
       draft.at(field::query_start_loc, s + 1) = RowOffset(draft.start(s) - 1);
       return broken("P1", FieldId::query_start_loc, s + 1,
                     concat("at least ", draft.start(s), ", where sequence ", s, " begins"),
                     concat(draft.start(s) - 1));
     }},
    {"more rows count as live than the sequences have",
     [](Draft& draft) -> Expected {
       const int32_t rows = draft.rows();
       if (rows == draft.rows_padded()) return {};
       draft.at(field::num_rows, 0) = LiveRows(draft.rows_padded());
       return broken(
           "P1", FieldId::query_start_loc, draft.seqs(), concat("num_rows = ", draft.rows_padded()),
           concat(rows, ", so rows ", rows, "..", draft.rows_padded() - 1, " belong to no sequence"));
     }},
    {"fewer rows count as live than the sequences have",
     [](Draft& draft) -> Expected {
       const int32_t rows = draft.rows();
       if (rows == 0) return {};
       draft.at(field::num_rows, 0) = LiveRows(0);
       return broken("P1", FieldId::query_start_loc, draft.seqs(), "num_rows = 0",
                     concat(rows, ", so rows 0..", rows - 1, " of live sequences count as pads"));
     }},
    {"the last pad sequence ends before the bucket",
     [](Draft& draft) -> Expected {
       const int32_t last = draft.seqs_padded() - 1;
       if (last < draft.seqs() || draft.rows_of(last) == 0) return {};
       draft.at(field::query_start_loc, last + 1) = RowOffset(draft.rows_padded() - 1);
       return broken("P1", FieldId::query_start_loc, last + 1,
                     concat("num_rows_padded = ", draft.rows_padded()),
                     concat(draft.rows_padded() - 1, ", so rows ", draft.rows_padded() - 1, "..",
                            draft.rows_padded() - 1, " belong to no sequence"));
     }},
    {"the last pad sequence ends past the bucket",
     [](Draft& draft) -> Expected {
       if (draft.seqs() == draft.seqs_padded()) return {};
       draft.at(field::query_start_loc, draft.seqs_padded()) = RowOffset(draft.rows_padded() + 1);
       return broken("P1", FieldId::query_start_loc, draft.seqs_padded(),
                     concat("num_rows_padded = ", draft.rows_padded()),
                     concat(draft.rows_padded() + 1, ", past the rows of the bucket"));
     }},
    {"a pad sequence counts as live",
     [](Draft& draft) -> Expected {
       const int32_t s = draft.seqs();
       if (s == draft.seqs_padded() || draft.rows_of(s) == 0) return {};
       draft.at(field::num_seqs, 0) = LiveSeqs(s + 1);
       return broken("P1", FieldId::query_start_loc, s + 1, concat("num_rows = ", draft.rows()),
                     concat(draft.start(s + 1), ", so rows ", draft.rows(), "..", draft.start(s + 1) - 1,
                            " of live sequences count as pads"));
     }},
};

constexpr Mutation kPadRows[] = {
    {"a pad sequence of a decode step has two rows",
     [](Draft& draft) -> Expected {
       const int32_t s = draft.seqs();
       const bool uniform = draft.plan.scalar(field::uniform_query_len) == RowCount(1);
       if (!uniform || s + 1 >= draft.seqs_padded() || draft.rows_of(s + 1) != 1) return {};
       for (int32_t each = 0; each < s; ++each) {
         if (draft.rows_of(each) != 1) return {};
       }
       draft.at(field::query_start_loc, s + 1) = RowOffset(draft.start(s) + 2);
       return broken(
           "P1", FieldId::query_start_loc, s + 1,
           concat("at most ", draft.start(s) + 1, ", for a pad sequence has at most 1 row in this bucket"),
           concat(draft.start(s) + 2));
     }},
    {"a pad sequence is longer than a page",
     [](Draft& draft) -> Expected {
       const int32_t s = draft.seqs();
       int32_t page = std::min(draft.limits.max_rows, draft.limits.max_seq_len);
       for (int32_t g = 0; g < draft.limits.num_groups; ++g) {
         if (draft.limits.group(GroupId(g)).kind == GroupKind::kPaged)
           page = std::min(page, draft.limits.group(GroupId(g)).page_tokens);
       }
       if (s + 1 >= draft.seqs_padded() || draft.rows_of(s) != page || draft.rows_of(s + 1) == 0 || page == 1)
         return {};
       draft.at(field::query_start_loc, s + 1) = RowOffset(draft.start(s) + page + 1);
       return broken("P1", FieldId::query_start_loc, s + 1,
                     concat("at most ", draft.start(s) + page, ", for a pad sequence has at most ", page,
                            " rows in this bucket"),
                     concat(draft.start(s) + page + 1));
     }},
};

constexpr Mutation kTokens[] = {
    {"a token is past the vocabulary",
     [](Draft& draft) -> Expected {
       const int32_t row = draft.any_live_row();
       if (row < 0) return {};
       const int32_t vocab = draft.limits.vocab_size;
       draft.at(field::token_ids, row) = TokenId(vocab);
       return broken("P1", FieldId::token_ids, row, concat("0..", vocab - 1, ", an entry of the vocabulary"),
                     concat(vocab));
     }},
    {"a token is negative",
     [](Draft& draft) -> Expected {
       const int32_t row = draft.any_live_row();
       if (row < 0) return {};
       draft.at(field::token_ids, row) = TokenId(-1);
       return broken("P1", FieldId::token_ids, row,
                     concat("0..", draft.limits.vocab_size - 1, ", an entry of the vocabulary"), "-1");
     }},
    {"a pad row has a token",
     [](Draft& draft) -> Expected {
       const int32_t row = draft.any_pad_row();
       if (row < 0) return {};
       draft.at(field::token_ids, row) = TokenId(1);
       return broken("P1", FieldId::token_ids, row, "0 in a pad row", "1");
     }},
    {"a token comes from a logits row that the step before does not have",
     [](Draft& draft) -> Expected {
       const int32_t row = draft.any_live_row();
       if (row < 0) return {};
       draft.at(field::token_source, row) = TokenSource(draft.last_logits_rows);
       return broken(
           "P1", FieldId::token_source, row,
           text("literal, or one of ", Counted{draft.last_logits_rows, "logits row"}, " of the step before"),
           concat(draft.last_logits_rows));
     }},
    {"a token comes from a negative logits row",
     [](Draft& draft) -> Expected {
       const int32_t row = draft.any_live_row();
       if (row < 0) return {};
       draft.at(field::token_source, row) = TokenSource(-2);
       return broken(
           "P1", FieldId::token_source, row,
           text("literal, or one of ", Counted{draft.last_logits_rows, "logits row"}, " of the step before"),
           "-2");
     }},
    {"tokens come from a step that is not the one before",
     [](Draft& draft) -> Expected {
       const Epoch source = draft.plan.scalar(field::source_epoch);
       if (source == Epoch(0)) return {};
       draft.at(field::source_epoch, 0) = Epoch(source.get() - 1);
       return broken("P1", FieldId::source_epoch, 0,
                     concat(source, ", the step before, as tokens come from it"), concat(source.get() - 1));
     }},
    {"a source step is named though every token is literal",
     [](Draft& draft) -> Expected {
       if (draft.plan.scalar(field::source_epoch) != Epoch(0)) return {};
       draft.at(field::source_epoch, 0) = Epoch(draft.last_epoch + 9);
       return broken("P1", FieldId::source_epoch, 0, "0, as every token is literal",
                     concat(draft.last_epoch + 9));
     }},
};

constexpr Mutation kLengths[] = {
    {"a negative number of tokens is computed",
     [](Draft& draft) -> Expected {
       const int32_t s = draft.any(draft.seqs());
       if (s < 0) return {};
       draft.at(field::computed_lens, s) = TokenCount(-1);
       return broken("P2", FieldId::computed_lens, s, "at least 0", "-1");
     }},
    {"a pad sequence has computed tokens",
     [](Draft& draft) -> Expected {
       const int32_t s = draft.any_pad_sequence();
       if (s < 0) return {};
       draft.at(field::computed_lens, s) = TokenCount(3);
       return broken("P2", FieldId::computed_lens, s, "0 in a pad sequence", "3");
     }},
    {"a length is not computed tokens and rows",
     [](Draft& draft) -> Expected {
       const int32_t s = draft.any(draft.seqs_padded());
       if (s < 0) return {};
       const int32_t length = draft.length(s);
       draft.at(field::seq_lens, s) = TokenCount(length + 1);
       return broken("P2", FieldId::seq_lens, s,
                     concat(length, " = computed ", draft.computed(s), " + rows ", draft.rows_of(s)),
                     concat(length + 1));
     }},
    {"a sequence is longer than the limit",
     [](Draft& draft) -> Expected {
       const int32_t s = draft.any(draft.seqs());
       if (s < 0) return {};
       const int32_t limit = draft.limits.max_seq_len;
       draft.at(field::computed_lens, s) = TokenCount(limit + 1 - draft.rows_of(s));
       draft.at(field::seq_lens, s) = TokenCount(limit + 1);
       return broken("P2", FieldId::seq_lens, s, concat("at most max_seq_len = ", limit), concat(limit + 1));
     }},
    {"a position is not the row's place in its sequence",
     [](Draft& draft) -> Expected {
       const int32_t row = draft.any(draft.rows_padded());
       if (row < 0) return {};
       const int32_t s = draft.owner(row);
       Position& position = draft.at(field::positions, row);
       const Position right = position;
       position = Position(right.get() + 1);
       return broken("P2", FieldId::positions, row,
                     concat(right, " = computed ", draft.computed(s), " + ", row - draft.start(s)),
                     concat(position));
     }},
    {"a live sequence came with no tokens",
     [](Draft& draft) -> Expected {
       const int32_t s = draft.any(draft.seqs());
       if (s < 0) return {};
       draft.at(field::prompt_lens, s) = TokenCount(0);
       return broken("P2", FieldId::prompt_lens, s,
                     concat("1..", draft.limits.max_seq_len, " as max_seq_len allows"), "0");
     }},
    {"a prompt is longer than a sequence may be",
     [](Draft& draft) -> Expected {
       const int32_t s = draft.any(draft.seqs());
       if (s < 0) return {};
       const int32_t limit = draft.limits.max_seq_len;
       draft.at(field::prompt_lens, s) = TokenCount(limit + 1);
       return broken("P2", FieldId::prompt_lens, s, concat("1..", limit, " as max_seq_len allows"),
                     concat(limit + 1));
     }},
    {"a pad sequence came with a prompt",
     [](Draft& draft) -> Expected {
       const int32_t s = draft.any_pad_sequence();
       if (s < 0) return {};
       draft.at(field::prompt_lens, s) = TokenCount(1);
       return broken("P2", FieldId::prompt_lens, s, "0 in a pad sequence", "1");
     }},
    {"the longest query is longer than stated",
     [](Draft& draft) -> Expected {
       const int32_t longest = draft.at(field::max_query_len, 0).get();
       draft.at(field::max_query_len, 0) = RowCount(longest - 1);
       return broken("P2", FieldId::max_query_len, 0, concat(longest, ", the rows of the longest query"),
                     concat(longest - 1));
     }},
    {"the longest sequence is shorter than stated",
     [](Draft& draft) -> Expected {
       const int32_t longest = draft.at(field::max_seq_len, 0).get();
       draft.at(field::max_seq_len, 0) = TokenCount(longest + 1);
       return broken("P2", FieldId::max_seq_len, 0, concat(longest, ", the largest of seq_lens"),
                     concat(longest + 1));
     }},
};

TEST(PlanValidator, NamesRowsThatNobodyOwns) { try_mutations(kStarts); }
TEST(PlanValidator, NamesPadSequencesThatAreTooLong) { try_mutations(kPadRows); }
TEST(PlanValidator, NamesTokensThatDoNotExist) { try_mutations(kTokens); }
TEST(PlanValidator, NamesLengthsThatDoNotAddUp) { try_mutations(kLengths); }

}  // namespace
}  // namespace lockstep
