// P9, P10 and the geometry of a step: each rule broken in many random plans, and plans of other limits.
#include <utility>

#include "plan/validate/mutations.h"

namespace lockstep {
namespace {

// A field's one number, changed; `text` follows the right number in what is expected.
template <typename T>
Expected off_by(Draft& draft, std::string_view check, Field<T> f, int32_t by, std::string_view text) {
  const int32_t right = draft.at(f, 0).get();
  draft.at(f, 0) = T(right + by);
  return broken(check, f.id, 0, concat(right, text), concat(right + by));
}

template <typename T>
Expected out_of(Draft& draft, Field<T> f, int32_t value, int32_t most) {
  draft.at(f, 0) = T(value);
  return broken("P10", f.id, 0, concat("0..", most), concat(value));
}

constexpr Mutation kCounts[] = {
    {"num_rows_padded is not the bucket's",
     [](Draft& draft) { return off_by(draft, "P10", field::num_rows_padded, 1, " as the bucket has"); }},
    {"num_seqs_padded is not the bucket's",
     [](Draft& draft) { return off_by(draft, "P10", field::num_seqs_padded, -1, " as the bucket has"); }},
    {"num_logits_rows_padded is not the bucket's",
     [](Draft& draft) {
       return off_by(draft, "P10", field::num_logits_rows_padded, 1, " as the bucket has");
     }},
    {"num_rows is negative",
     [](Draft& draft) { return out_of(draft, field::num_rows, -1, draft.rows_padded()); }},
    {"num_rows is more than the bucket",
     [](Draft& draft) {
       return out_of(draft, field::num_rows, draft.rows_padded() + 1, draft.rows_padded());
     }},
    {"num_seqs is negative",
     [](Draft& draft) { return out_of(draft, field::num_seqs, -1, draft.seqs_padded()); }},
    {"num_seqs is more than the bucket",
     [](Draft& draft) {
       return out_of(draft, field::num_seqs, draft.seqs_padded() + 1, draft.seqs_padded());
     }},
    {"num_logits_rows is negative",
     [](Draft& draft) {
       return out_of(draft, field::num_logits_rows, -1, draft.plan.bucket().logits_rows.get());
     }},
    {"num_logits_rows is more than the bucket",
     [](Draft& draft) {
       const int32_t most = draft.plan.bucket().logits_rows.get();
       return out_of(draft, field::num_logits_rows, most + 1, most);
     }},
    {"num_table_edits is more than fits",
     [](Draft& draft) -> Expected {
       const GroupId group = draft.any_group(GroupKind::kPaged);
       if (group == GroupId(-1)) return {};
       draft.at(field::num_table_edits, 0, group) = draft.limits.max_edits + 1;
       return broken("P10", FieldId::num_table_edits, 0, concat("0..", draft.limits.max_edits),
                     concat(draft.limits.max_edits + 1), group);
     }},
    {"num_table_edits is negative",
     [](Draft& draft) -> Expected {
       const GroupId group = draft.any_group(GroupKind::kPaged);
       if (group == GroupId(-1)) return {};
       draft.at(field::num_table_edits, 0, group) = -1;
       return broken("P10", FieldId::num_table_edits, 0, concat("0..", draft.limits.max_edits), "-1", group);
     }},
    {"num_copies is more than fits",
     [](Draft& draft) -> Expected {
       const GroupId group(draft.any(draft.limits.num_groups));
       draft.at(field::num_copies, 0, group) = draft.limits.max_copies + 1;
       return broken("P10", FieldId::num_copies, 0, concat("0..", draft.limits.max_copies),
                     concat(draft.limits.max_copies + 1), group);
     }},
    {"num_copies is negative",
     [](Draft& draft) -> Expected {
       const GroupId group(draft.any(draft.limits.num_groups));
       draft.at(field::num_copies, 0, group) = -1;
       return broken("P10", FieldId::num_copies, 0, concat("0..", draft.limits.max_copies), "-1", group);
     }},
};

Expected bend_segment(Draft& draft, void (*bend)(CpSegments&)) {
  const int32_t s = draft.any(draft.seqs_padded());
  if (s < 0) return {};
  const auto text = [](const CpSegments& segments) {
    return concat(segments.prev.length, " from ", segments.prev.start, " and ", segments.next.length,
                  " from ", segments.next.start);
  };
  const std::string right = text(draft.at(field::cp_segments, s));
  bend(draft.at(field::cp_segments, s));
  return broken("P9", FieldId::cp_segments, s, right, text(draft.at(field::cp_segments, s)));
}

constexpr Mutation kSegments[] = {
    {"the early segment begins elsewhere",
     [](Draft& draft) {
       return bend_segment(draft, [](CpSegments& s) { s.prev.start = Position(s.prev.start.get() + 1); });
     }},
    {"the early segment is longer",
     [](Draft& draft) { return bend_segment(draft, [](CpSegments& s) { s.prev.length += RowCount(1); }); }},
    {"the late segment begins elsewhere",
     [](Draft& draft) {
       return bend_segment(draft, [](CpSegments& s) { s.next.start = Position(s.next.start.get() - 1); });
     }},
    {"the late segment is shorter",
     [](Draft& draft) {
       return bend_segment(draft, [](CpSegments& s) { s.next.length = s.next.length - RowCount(1); });
     }},
};

constexpr Mutation kGeometry[] = {
    {"an epoch is used twice",
     [](Draft& draft) -> Expected {
       draft.at(field::epoch, 0) = Epoch(draft.last_epoch);
       return broken("GEO", FieldId::epoch, 0, concat("more than ", draft.last_epoch, ", the epoch before"),
                     concat(draft.last_epoch));
     }},
    {"the phase is another",
     [](Draft& draft) -> Expected {
       int32_t& phase = draft.at(field::phase, 0);
       const int32_t right = phase;
       phase = (right + draft.pick(1, 3)) % 4;
       const auto text = [](int32_t value) {
         return concat(value, ", ", name_of(static_cast<Phase>(value)));
       };
       return broken("GEO", FieldId::phase, 0, text(right), text(phase));
     }},
    {"the phase is none that exists",
     [](Draft& draft) -> Expected {
       int32_t& phase = draft.at(field::phase, 0);
       const int32_t right = std::exchange(phase, 9);
       return broken("GEO", FieldId::phase, 0, concat(right, ", ", name_of(static_cast<Phase>(right))),
                     "9, unknown");
     }},
    {"a ragged step counts as uniform",
     [](Draft& draft) -> Expected {
       RowCount& uniform = draft.at(field::uniform_query_len, 0);
       if (uniform != RowCount(0)) return {};
       uniform = RowCount(1);
       return broken("GEO", FieldId::uniform_query_len, 0, "0, as the sequences differ", "1");
     }},
    {"a uniform step counts as ragged",
     [](Draft& draft) -> Expected {
       RowCount& uniform = draft.at(field::uniform_query_len, 0);
       if (uniform == RowCount(0)) return {};
       const RowCount right = std::exchange(uniform, RowCount(0));
       return broken("GEO", FieldId::uniform_query_len, 0,
                     concat(right, ", the rows of every sequence that has any"), "0");
     }},
    {"a rank has more rows than a step may have",
     [](Draft& draft) -> Expected {
       const int32_t rank = draft.any(draft.limits.dp_ranks);
       draft.at(field::dp_row_counts, rank) = PaddedRows(draft.limits.max_rows + 1);
       return broken("GEO", FieldId::dp_row_counts, rank,
                     concat("0..", draft.limits.max_rows, " as max_rows allows"),
                     concat(draft.limits.max_rows + 1));
     }},
    {"a rank has a negative number of rows",
     [](Draft& draft) -> Expected {
       const int32_t rank = draft.any(draft.limits.dp_ranks);
       draft.at(field::dp_row_counts, rank) = PaddedRows(-1);
       return broken("GEO", FieldId::dp_row_counts, rank,
                     concat("0..", draft.limits.max_rows, " as max_rows allows"), "-1");
     }},
    {"no rank has the rows of this plan",
     [](Draft& draft) -> Expected {
       const int32_t other = draft.rows_padded() == 0 ? 1 : draft.rows_padded() - 1;
       for (PaddedRows& count : draft.plan.edit(field::dp_row_counts)) count = PaddedRows(other);
       return broken("GEO", FieldId::dp_row_counts, 0,
                     concat("num_rows_padded = ", draft.rows_padded(), " for the rank of this plan"),
                     concat(other));
     }},
};

TEST(PlanValidator, NamesCountsThatDoNotFit) { try_mutations(kCounts); }
TEST(PlanValidator, NamesSegmentsThatAreNotTheRows) { try_mutations(kSegments); }
TEST(PlanValidator, NamesGeometryThatTheSequencesDoNotHave) { try_mutations(kGeometry); }

constexpr Bucket kBucket{.rows = PaddedRows(8), .seqs = PaddedSeqs(4), .logits_rows = PaddedRows(2)};

StepLimits small_limits() {
  return {.max_rows = 8,
          .max_seqs = 4,
          .max_logits_rows = 2,
          .max_seq_len = 32,
          .max_edits = 3,
          .max_copies = 2,
          .vocab_size = 10};
}

// What a validator of small limits says about an empty plan of these.
std::string refusal(const StepLimits& limits, const Bucket& bucket) {
  StepPlan plan;
  plan.reset(limits, bucket);
  PlanValidator validator(small_limits());
  return validator.validate(plan).message();
}

TEST(PlanValidator, NamesTheSideOfTheBucketThatTheLimitsDoNotHold) {
  StepLimits larger = small_limits();
  larger.max_rows = larger.max_seqs = larger.max_logits_rows = 99;
  Bucket rows = kBucket, seqs = kBucket, logits_rows = kBucket;
  rows.rows = PaddedRows(9);
  seqs.seqs = PaddedSeqs(5);
  logits_rows.logits_rows = PaddedRows(3);

  EXPECT_EQ(refusal(larger, rows),
            "plan 0: P10 num_rows_padded is 9; expected at most 8 as the limits allow");
  EXPECT_EQ(refusal(larger, seqs),
            "plan 0: P10 num_seqs_padded is 5; expected at most 4 as the limits allow");
  EXPECT_EQ(refusal(larger, logits_rows),
            "plan 0: P10 num_logits_rows_padded is 3; expected at most 2 as the limits allow");
}

TEST(PlanValidator, NamesTheFieldThatLiesElsewhereInAPlanOfOtherLimits) {
  StepLimits ranks = small_limits(), groups = small_limits();
  ranks.dp_ranks = 2;
  groups.num_groups = 1;
  groups.groups[0] = {.kind = GroupKind::kState, .num_pages = 2};

  EXPECT_EQ(refusal(ranks, kBucket),
            "plan 0: P10 dp_row_counts[0] is an array of 2 at byte 576; expected an array of 1 at byte 576");
  EXPECT_EQ(refusal(groups, kBucket),
            "plan 0: P10 dp_row_counts[0] is an array of 1 at byte 592; expected an array of 1 at byte 576");
}

TEST(PlanValidator, RefusesPlansWithoutAnImage) {
  StepPlan plan, never;
  plan.reset(small_limits(), kBucket);
  const StepPlan taken = std::move(plan);
  PlanValidator validator(small_limits());

  EXPECT_EQ(validator.validate(plan).message(),  // NOLINT: the moved-from plan is the case
            "plan 0: P10 token_ids[0] is in an image of 0 bytes; expected an array of 8 up to byte 32");
  EXPECT_EQ(validator.validate(never).message(),
            "plan 0: P10 token_ids[0] is an array of 0 at byte -1; expected an array of 0 at byte 0");
}

}  // namespace
}  // namespace lockstep
