#include "contract/agreement.h"

#include <gtest/gtest.h>

#include <functional>
#include <vector>

#include "plan/plan_builder.h"

namespace lockstep {
namespace {

uint64_t& field_of(RankFacts& facts, FieldId id) { return facts.fields[static_cast<size_t>(id)]; }

CollectiveFact gather(int64_t count) {
  return {.op = "all_gather", .group = "ep", .dtype = DType::kBF16, .count = count};
}

// Ranks that say the same in everything.
std::vector<RankFacts> ranks(int32_t count) {
  std::vector<RankFacts> all;
  for (int32_t rank = 0; rank < count; ++rank) {
    RankFacts facts{.rank = rank, .participation = Participation::kActiveDecode, .graph_key = 0xabc};
    for (const FieldInfo& info : kFields) field_of(facts, info.id) = 100 + static_cast<uint64_t>(info.id);
    field_of(facts, FieldId::epoch) = 17;
    field_of(facts, FieldId::num_rows) = 26;
    field_of(facts, FieldId::num_rows_padded) = 30;
    facts.add(gather(61440));
    facts.add(CapacityFact{.name = "dispatch_tokens", .value = 128});
    all.push_back(facts);
  }
  return all;
}

std::string first_line(const Status& status) {
  return status.message().substr(0, status.message().find('\n'));
}

TEST(Agreement, HoldsForRanksThatSayTheSame) {
  for (const RankGroup group : {RankGroup::kTensor, RankGroup::kContext, RankGroup::kData}) {
    EXPECT_EQ(agree(ranks(1), group).message(), "");
    EXPECT_EQ(agree(ranks(4), group).message(), "");
  }
  EXPECT_TRUE(agree({}, RankGroup::kData).ok());
}

TEST(Agreement, TellsWhoSaidWhat) {
  std::vector<RankFacts> facts = ranks(3);
  field_of(facts[1], FieldId::num_rows) = 30;
  facts[1].participation = Participation::kIdle;
  facts[1].graph_key = 0;

  const Status status = agree(facts, RankGroup::kTensor);

  EXPECT_EQ(status.code(), Code::kInternal);
  EXPECT_EQ(status.message(),
            "step 17: G1 participation is idle on rank 1; expected active-decode, as on rank 0\n"
            "tensor-parallel  rank 0         rank 1  rank 2\n"
            "participation    active-decode  idle    active-decode  differs\n"
            "epoch            17             17      17\n"
            "num_rows         26             30      26             differs\n"
            "num_rows_padded  30             30      30\n"
            "graph_key        graph abc      eager   graph abc      differs");
  ASSERT_NE(status.fault(), nullptr);
  EXPECT_EQ(status.fault()->check, "G1");
  EXPECT_EQ(status.fault()->moment, Moment::kGroup);
  EXPECT_EQ(status.fault()->field, "participation");
  EXPECT_EQ(status.fault()->rank, 1);
  EXPECT_EQ(status.fault()->step, 17u);
}

TEST(Agreement, NamesTheRankThatIsAlone) {
  std::vector<RankFacts> facts = ranks(4);
  field_of(facts[0], FieldId::num_seqs) = 5;

  EXPECT_EQ(first_line(agree(facts, RankGroup::kTensor)),
            concat("step 17: G1 num_seqs is 5 on rank 0; expected ",
                   100 + static_cast<int>(FieldId::num_seqs), ", as on rank 1"));
}

// Each thing that a rank may say otherwise, and in which groups that is a fault.
struct Case {
  const char* what;
  std::function<void(RankFacts&)> change;
  bool tensor, context, data;
};

TEST(Agreement, DependsOnWhatTiesTheRanksTogether) {
  const auto field = [](FieldId id) { return [id](RankFacts& facts) { ++field_of(facts, id); }; };
  const std::vector<Case> cases = {
      {"epoch", field(FieldId::epoch), true, true, true},
      {"dp_row_counts", field(FieldId::dp_row_counts), true, true, true},
      {"token_ids", field(FieldId::token_ids), true, false, false},
      {"cp_spans", field(FieldId::cp_spans), true, true, false},
      {"cp_slot_mapping", field(FieldId::cp_slot_mapping), true, true, false},
      {"num_rows_padded", field(FieldId::num_rows_padded), true, true, false},
      {"cp_segments", field(FieldId::cp_segments), true, false, false},
      {"slot_mapping", field(FieldId::slot_mapping), true, false, false},
      {"participation", [](RankFacts& facts) { facts.participation = Participation::kIdle; }, true, true,
       false},
      {"sampled_tokens", [](RankFacts& facts) { facts.sampled_tokens = 7; }, true, true, false},
      {"graph_key", [](RankFacts& facts) { facts.graph_key = 0; }, true, true, true},
      {"config", [](RankFacts& facts) { facts.config = 1; }, true, true, true},
      {"dispatch_tokens", [](RankFacts& facts) { facts.capacities[0].value = 256; }, true, true, true},
      {"dispatch_tokens", [](RankFacts& facts) { facts.capacities[0].name = "other"; }, true, true, true},
      {"max_rows", [](RankFacts& facts) { facts.add(CapacityFact{.name = "max_rows", .value = 1}); }, true,
       true, true},
      {"collectives[1]", [](RankFacts& facts) { facts.add(gather(1)); }, true, true, true},
  };
  for (const Case& each : cases) {
    SCOPED_TRACE(each.what);
    std::vector<RankFacts> facts = ranks(3);
    each.change(facts[2]);
    for (const auto& [group, named] :
         {std::pair{RankGroup::kTensor, each.tensor}, std::pair{RankGroup::kContext, each.context},
          std::pair{RankGroup::kData, each.data}}) {
      const Status status = agree(facts, group);
      EXPECT_EQ(status.ok(), !named) << name_of(group);
      if (!named || status.ok()) continue;
      EXPECT_EQ(status.fault()->field, each.what);
      EXPECT_EQ(status.fault()->rank, 2);
    }
  }
}

TEST(Agreement, NamesTheFirstCollectiveThatDiffers) {
  std::vector<RankFacts> facts = ranks(2);
  facts[0].add(gather(8));
  facts[1].add(gather(9));

  EXPECT_EQ(
      first_line(agree(facts, RankGroup::kData)),
      "step 17: G1 collectives[1] is all_gather in ep of 9 bf16 on rank 1; expected all_gather in ep of 8 "
      "bf16, as on rank 0");
}

TEST(Agreement, LetsCountsDifferWhereACollectiveTakesEachRanksOwn) {
  std::vector<RankFacts> facts = ranks(2);
  for (RankFacts& rank : facts) {
    CollectiveFact own = gather(100 + rank.rank);
    own.any_count = true;
    rank.add(own);
  }

  EXPECT_EQ(agree(facts, RankGroup::kData).message(), "");
}

TEST(Agreement, SeesCollectivesPastThoseThatAreListed) {
  std::vector<RankFacts> facts = ranks(2);
  for (RankFacts& rank : facts) {
    for (size_t c = 0; c < 2 * RankFacts::kCollectives; ++c) rank.add(gather(5));
    rank.add(gather(rank.rank));
  }

  const Status status = agree(facts, RankGroup::kData);

  ASSERT_NE(status.fault(), nullptr);
  EXPECT_EQ(status.fault()->field, "collectives");
}

TEST(Agreement, WantsOneSourceOfACollectiveThatHasOne) {
  const auto with_roles = [](Role first, Role second) {
    std::vector<RankFacts> facts = ranks(2);
    CollectiveFact broadcast{.op = "broadcast", .group = "tp", .dtype = DType::kI32, .count = 4};
    broadcast.role = first;
    facts[0].add(broadcast);
    broadcast.role = second;
    facts[1].add(broadcast);
    return first_line(agree(facts, RankGroup::kTensor));
  };

  EXPECT_EQ(with_roles(Role::kSends, Role::kReceives), "");
  EXPECT_EQ(with_roles(Role::kReceives, Role::kReceives),
            "step 17: G1 collectives[1] is broadcast that 0 ranks send; expected one rank that sends");
  EXPECT_EQ(with_roles(Role::kSends, Role::kSends),
            "step 17: G1 collectives[1] is broadcast that 2 ranks send; expected one rank that sends");
}

TEST(Agreement, SaysTheSameOnEveryRank) {
  std::vector<RankFacts> facts = ranks(2);
  facts[1].config = 0xff;

  EXPECT_EQ(agree(facts, RankGroup::kData).message(),
            "step 17: G1 config is digest ff on rank 1; expected digest 0, as on rank 0\n"
            "data-parallel    rank 0         rank 1\n"
            "participation    active-decode  active-decode\n"
            "epoch            17             17\n"
            "config           digest 0       digest ff      differs\n"
            "num_rows         26             26\n"
            "num_rows_padded  30             30\n"
            "graph_key        graph abc      graph abc");
}

TEST(Agreement, TakesItsFactsFromThePlan) {
  StepLimits limits{.max_rows = 4,
                    .max_seqs = 2,
                    .max_logits_rows = 2,
                    .max_seq_len = 8,
                    .max_edits = 4,
                    .vocab_size = 9,
                    .num_groups = 1};
  limits.groups[0] = {
      .page_tokens = 4, .kernel_page_tokens = 4, .num_pages = 4, .table_rows = 2, .max_pages_per_seq = 2};
  const auto facts_with = [&](int32_t token) {
    PageTables tables(2, 2);
    tables.append(TableRow(1), PageId(1));
    const std::vector<TokenId> tokens = {TokenId(token), TokenId(2)};
    std::vector<SequenceStep> steps = {{.tokens = tokens, .prompt_len = TokenCount(2)}};
    steps[0].table_rows[0] = TableRow(1);
    StepPlan plan;
    const Status built = PlanBuilder(limits, {&tables})
                             .build({.epoch = Epoch(3),
                                     .sequences = steps,
                                     .bucket = {PaddedRows(4), PaddedSeqs(2), PaddedRows(1)}},
                                    plan);
    EXPECT_TRUE(built.ok()) << built.message();
    return facts_of(plan, 1);
  };

  const RankFacts facts = facts_with(5), other = facts_with(6);

  EXPECT_EQ(facts.rank, 1);
  EXPECT_EQ(facts.participation, Participation::kActiveOther);
  EXPECT_EQ(facts.field(FieldId::epoch), 3u);
  EXPECT_EQ(facts.field(FieldId::num_rows), 2u);
  EXPECT_EQ(facts.field(FieldId::num_rows_padded), 4u);
  for (const FieldInfo& info : kFields)
    EXPECT_EQ(facts.field(info.id) != other.field(info.id), info.id == FieldId::token_ids) << info.name;
}

}  // namespace
}  // namespace lockstep
