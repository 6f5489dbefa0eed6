#include "explain/explain.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <iterator>

#include "engine/record_file.h"
#include "explain/field_report.h"
#include "guard/record_merge.h"

namespace lockstep {
namespace {

constexpr const char* kName = "lockstep-1.merged.record";

Explanation explained(const Record& record, ExplainOptions options = {}) {
  Result<Explanation> result = explain(record, options);
  EXPECT_TRUE(result.ok()) << result.status().message();
  return result.ok() ? *std::move(result) : Explanation{};
}

const Answer& answer_called(const Explanation& explanation, std::string_view id) {
  for (const Answer& answer : explanation.answers) {
    if (answer.id == id) return answer;
  }
  ADD_FAILURE() << "no answer " << id;
  return explanation.answers.front();
}

// "answer [source]"
std::string said(const Record& record, std::string_view id, ExplainOptions options = {}) {
  const Explanation explanation = explained(record, options);
  const Answer& answer = answer_called(explanation, id);
  return concat(answer.answer, " [", name_of(answer.source), "]");
}

// To take over a text that changed on purpose: LOCKSTEP_WRITE_GOLDEN=1 explain_test.
TEST(Explain, TellsTheSecondFieldReportFromOneRecord) {
  const std::string path = std::string(LOCKSTEP_SOURCE_DIR) + "/tests/golden/explain/field_report.txt";
  const std::string text = explanation_text(explained(field_report::record()), kName);
  if (std::getenv("LOCKSTEP_WRITE_GOLDEN") != nullptr) std::ofstream(path) << text;
  std::ifstream in(path);
  const std::string golden((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());

  EXPECT_EQ(text, golden);
}

TEST(Explain, SaysTheSameOfARecordThatWentThroughAFile) {
  const Record record = field_report::record();
  const Result<std::string> bytes = record_bytes(record);
  ASSERT_TRUE(bytes.ok());
  if (std::getenv("LOCKSTEP_WRITE_GOLDEN") != nullptr)  // for the fuzzers to begin from
    std::ofstream(LOCKSTEP_SOURCE_DIR "/tests/fuzz/record_file/field_report") << *bytes;
  const Result<Record> read =
      parse_record({reinterpret_cast<const uint8_t*>(bytes->data()), bytes->size()}, kName);
  ASSERT_TRUE(read.ok()) << read.status().message();

  EXPECT_EQ(explanation_text(explained(*read), kName), explanation_text(explained(record), kName));
}

TEST(Explain, LooksAtTheStepThatItIsToldTo) {
  const Record record = field_report::record();

  EXPECT_EQ(
      said(record, "first", {.step = 2}),
      "rank 1, step 2, layer 1 (gated_delta), delta, gated_delta was the first to give numbers that are not "
      "finite [seen]");
  EXPECT_EQ(said(record, "rows", {.step = 2}), "1 live row (2): 86 NaN of 8,192 elements [seen]");
  EXPECT_EQ(said(record, "phase", {.step = 2}), "decode, step 2 of rank 1 [seen]");
  EXPECT_EQ(said(record, "input", {.step = 2}), "not recorded [not recorded]");
  const Result<Explanation> missing = explain(record, {.step = 99});
  EXPECT_EQ(missing.status().message(), "explain: step 99 is not in the record; expected one of 1..2");
}

TEST(Explain, NamesARankThatNeverCameToACollective) {
  Record record = field_report::record();
  record.ledger.pop_back();

  const auto waits = std::find_if(record.ledger.begin(), record.ledger.end(),
                                  [](const LedgerEntry& entry) { return entry.sequence == 8; });
  waits->finished = false;

  EXPECT_EQ(
      said(record, "ranks"),
      "collective 8 of experts: rank 0 entered all_gather of 61440 bf16, rank 1 never came; the last there "
      "was 7; rows that nobody owns: 4 on rank 0 [seen]");
  const Explanation explanation = explained(record);
  EXPECT_EQ(explanation.meetings.back().missing, std::vector<int32_t>{1});
  EXPECT_TRUE(explanation.meetings.front().missing.empty());
  EXPECT_NE(explanation_html(explanation, kName).find("rank 1 did not come"), std::string::npos);

  // Without rank 1's record it is missed all the same.
  Record alone = record;
  std::erase_if(alone.ranks, [](const RankEntry& rank) { return rank.rank == 1; });
  std::erase_if(alone.ledger, [](const LedgerEntry& entry) { return entry.rank == 1; });
  EXPECT_EQ(said(alone, "ranks"),
            "collective 8 of experts: rank 0 entered all_gather of 61440 bf16, rank 1 never came [seen]");

  waits->finished = true;  // so everybody was there, and rank 1 was recorded before
  EXPECT_TRUE(explained(record).meetings.back().missing.empty());
}

TEST(Explain, NamesRanksThatEnteredDifferentCollectives) {
  Record record = field_report::record();
  record.ledger.back().count = 5;

  EXPECT_EQ(said(record, "ranks"),
            "collective 8 of experts: rank 0 entered all_gather of 61440 bf16, rank 1 entered all_gather of "
            "5 bf16; "
            "rows that nobody owns: 4 on rank 0 [seen]");
  EXPECT_TRUE(explained(record).meetings.back().differs);
}

// A fault between ranks, as the record of each has it.
void add_disagreement(Record& record, const Fault& fault, const std::string& table) {
  record.faults.clear();
  record.findings.clear();
  record.first_bad_launch.clear();
  record.launches.clear();
  record.rerun.clear();
  for (const RankEntry& rank : record.ranks) {
    FaultEntry& entry = record.faults.emplace_back();
    entry.fault = fault;
    entry.message = fault.message() + table;
    entry.on_rank = rank.rank;
    entry.told = rank.rank != fault.rank;
  }
  record = merge({record}).value();
}

TEST(Explain, NamesTheRankThatSaidSomethingElseAndShowsWhoSaidWhat) {
  Record record = field_report::record();
  add_disagreement(record,
                   {.check = "G1",
                    .moment = Moment::kGroup,
                    .field = "num_rows_padded",
                    .rank = 1,
                    .step = 1,
                    .expected = "30, as on rank 0",
                    .found = "32 on rank 1"},
                   "\ndata-parallel    rank 0  rank 1\nnum_rows_padded  30      32      differs");

  EXPECT_EQ(
      said(record, "cause"),
      "rank 1 said something else: num_rows_padded is 32 on rank 1; expected 30, as on rank 0; rank 0 only "
      "followed [seen]");
  EXPECT_EQ(said(record, "first"),
            "rank 1: step 1: G1 num_rows_padded is 32 on rank 1; expected 30, as on rank 0 [seen]");
  const Explanation explanation = explained(record);
  EXPECT_EQ(answer_called(explanation, "cause").listing,
            "data-parallel    rank 0  rank 1\nnum_rows_padded  30      32      differs\n");
  EXPECT_EQ(explanation.verdict.front(), said(record, "cause"));
  const std::vector<std::vector<std::string>>& parts = answer_called(explanation, "cause").tables[0].rows;
  EXPECT_EQ(parts[0][2], "said the other thing");
  EXPECT_EQ(parts[1][2], "said something else");
}

TEST(Explain, KnowsARankThatWasMissedThoughItLeftNoRecord) {
  Record record = field_report::record();
  for (RankEntry& rank : record.ranks) rank.groups[0].ranks = {0, 1, 2};
  add_disagreement(record,
                   {.check = "G1",
                    .moment = Moment::kGroup,
                    .consumer = "rank 2 (dp 2)",
                    .field = "participation",
                    .rank = 2,
                    .step = 1,
                    .expected = "a sign of life within 5.0 s",
                    .found = "silent for 5.1 s"},
                   "");

  EXPECT_EQ(
      said(record, "cause"),
      "rank 2 was missed: step 1: G1 rank 2 (dp 2): participation is silent for 5.1 s; expected a sign of "
      "life within 5.0 s; ranks 0, 1 only followed [seen]");
  const Explanation explanation = explained(record);
  const Answer& answer = answer_called(explanation, "cause");
  EXPECT_EQ(answer.tables[0].rows[0][2], "waited");
  EXPECT_EQ(answer.tables[0].rows[2][2], "no record here");
  EXPECT_EQ(answer.evidence[0], "of rank 2 there is no record here: give it too, unless none was written");
}

TEST(Explain, DoesNotTakeARankThatOnlyFollowedForTheCause) {
  Record record = field_report::record();
  EXPECT_EQ(
      said(record, "cause"),
      "rank 0 broke L3: step 1: L3 paged_attention: out[26] is NaN; expected zero in a row that nobody owns; "
      "rank 1 only followed [seen]");

  // Rank 1's record by itself.
  std::erase_if(record.ranks, [](const RankEntry& rank) { return rank.rank == 0; });
  std::erase_if(record.faults, [](const FaultEntry& fault) { return fault.on_rank == 0; });
  EXPECT_EQ(said(record, "cause"),
            "rank 0, as others heard: step 1: L3 paged_attention: out[26] is NaN; expected zero in a "
            "row that nobody owns; rank 1 only followed [seen]");
  EXPECT_EQ(explained(record).verdict.front(), said(record, "cause"));
}

TEST(Explain, TellsWhatARankReceivedFromWhatItMade) {
  Record record = field_report::record();
  EXPECT_EQ(said(record, "spread"),
            "yes: rank 1 received rows 26..29 of rank 0 at step 1, layer 3 (moe), gather_rows, "
            "gather_rows_of_ranks, and its own rows stayed finite [seen]");

  for (Finding& finding : record.findings) {
    if (finding.owner == Owner::kGathered) finding.owner = Owner::kLive;  // a sum over the ranks
  }
  EXPECT_EQ(said(record, "spread"),
            "yes: rank 1 received rows 26..29 in a sum at step 1, layer 3 (moe), gather_rows, "
            "gather_rows_of_ranks [seen]");

  std::erase_if(record.findings, [](const Finding& finding) { return finding.at.collective; });
  EXPECT_EQ(
      said(record, "spread"),
      "no: ranks 0, 1 have made what is not finite there, and no other rank was brought any, as far as was "
      "recorded [seen]");
}

TEST(Explain, SaysThatRanksWereFirstTogether) {
  Record record = field_report::record();
  Finding twin = record.findings.front();
  twin.at.rank = 1;
  record.findings.push_back(twin);

  EXPECT_EQ(
      said(record, "first"),
      "ranks 0, 1, step 1, layer 3 (softmax), attention, paged_attention were the first to give numbers that "
      "are not finite [seen]");
}

TEST(Explain, NamesAFieldThatTheDeviceReadOtherwise) {
  Record record = field_report::record();
  record.steps[0].head[7] ^= 1;  // seq_lens, the eighth array of the image
  EXPECT_EQ(said(record, "device"), "the device read other bytes than the plan's: seq_lens [seen]");

  record = field_report::record();
  record.steps[0].tail ^= 1;
  EXPECT_EQ(said(record, "device"), "a kernel wrote to the plan [seen]");
}

TEST(Explain, SaysThatPoisonCameThroughAState) {
  Record record = field_report::record();
  record.rerun[0].state_clean = Verdict::kNo;
  EXPECT_EQ(said(record, "carried"), "yes: the state was not clean before the step [from the rerun]");

  record.rerun[0].state_clean = Verdict::kNotRecorded;
  EXPECT_EQ(said(record, "carried"),
            "not through what was looked at; the rest is not recorded [from the rerun]");
}

TEST(Explain, SaysThatTheInputWasNotClean) {
  Record record = field_report::record();
  record.first_bad_launch[0].inputs[1].clean = Verdict::kNo;
  EXPECT_EQ(said(record, "input"), "its input was not clean: the numbers came from before it [seen]");

  record.first_bad_launch[0].inputs[1].clean = Verdict::kNotRecorded;
  EXPECT_EQ(said(record, "input"), "the inputs that were looked at were clean; not all were [seen]");
}

TEST(Explain, KnowsThePhaseOfABadLaunchWhosePlanIsGone) {
  Record record = field_report::record();
  record.steps.clear();

  EXPECT_EQ(said(record, "phase"), "prefill, step 1 of rank 0 [seen]");
}

TEST(Explain, LabelsWhatTheRerunFound) {
  Record record = field_report::record();
  for (Finding& finding : record.findings) finding.source = Seen::kRerun;

  EXPECT_TRUE(said(record, "first").ends_with("[from the rerun]"));
  EXPECT_TRUE(said(record, "rows").ends_with("[from the rerun]"));
}

TEST(Explain, GuessesNothingThatWasNotRecorded) {
  Record record;
  record.ranks.push_back(field_report::rank_entry(0));
  const Explanation explanation = explained(record);

  EXPECT_EQ(explanation.verdict, std::vector<std::string>{"no fault was recorded [seen]"});
  for (const Answer& answer : explanation.answers) {
    EXPECT_EQ(answer.source, Source::kNotRecorded) << answer.id;
    EXPECT_EQ(answer.answer, "not recorded") << answer.id;
  }
  EXPECT_EQ(explained(Record{}).title, "0 ranks, 0 steps");
}

TEST(Explain, ARecordWithoutAFaultSaysThatItsPlansAreValid) {
  Record record = field_report::record();
  record.faults.clear();
  record.findings.clear();
  record.launches.clear();
  record.first_bad_launch.clear();
  record.rerun.clear();
  record.steps.erase(record.steps.begin());  // rank 0's only step
  record.ranks.erase(record.ranks.begin());
  const Explanation explanation = explained(record);

  EXPECT_EQ(explanation.verdict, (std::vector<std::string>{
                                     "no fault was recorded [seen]",
                                     "is the plan valid? yes: every recorded plan keeps every rule [seen]"}));
}

TEST(Explain, WithoutThePageTablesNoPlanIsCalledValid) {
  Record record = field_report::record();
  for (RankEntry& rank : record.ranks) rank.tables_known = false;

  EXPECT_EQ(said(record, "plan"), "not recorded [not recorded]");
}

TEST(Explain, LimitsThatNoEngineHasAreNotWorkedWith) {
  Record record = field_report::record();
  for (RankEntry& rank : record.ranks) rank.limits.groups[0].num_pages = 2'000'000'000;

  EXPECT_EQ(answer_called(explained(record), "plan").evidence.front(),
            "rank 0: not recorded: the limits are larger than any that this command checks");
}

TEST(Explain, APageNeedsNothingElseAndShowsItsTextAsText) {
  Record record = field_report::record();
  record.faults[0].message = "<script>alert(1)</script> & \"more\"";
  const std::string page = explanation_html(explained(record), "a<b>.record");

  EXPECT_EQ(page.find("<script"), std::string::npos);
  EXPECT_NE(page.find("&lt;script&gt;alert(1)&lt;/script&gt; &amp; &quot;more&quot;"), std::string::npos);
  EXPECT_EQ(page.find("<b>.record"), std::string::npos);
  EXPECT_EQ(page.find("http"), std::string::npos);
  EXPECT_EQ(page.find(" src="), std::string::npos);
  EXPECT_NE(page.find("prefers-color-scheme:dark"), std::string::npos);
  EXPECT_NE(page.find("first: layer 3, attention: paged_attention"), std::string::npos);
}

TEST(Explain, JsonHasEveryAnswerAndBothPictures) {
  const std::string json = explanation_json(explained(field_report::record()), kName);

  EXPECT_TRUE(json.starts_with("{\"schema\":\"lockstep.explain/1\",\"file\":\"lockstep-1.merged.record\""));
  for (const char* id : {"first", "phase", "input", "rows", "stage", "carried", "plan", "oracle", "f32",
                         "bindings", "device", "ranks", "cause", "spread"})
    EXPECT_NE(json.find(concat("{\"id\":\"", id, "\"")), std::string::npos) << id;
  EXPECT_NE(json.find("\"state\":\"first\""), std::string::npos);
  EXPECT_NE(json.find("{\"order\":8,\"step\":1,\"group\":\"experts\",\"number\":8"), std::string::npos);
  EXPECT_NE(json.find("{\"owner\":\"unowned\",\"sequence\":-1,\"bad\":true}"), std::string::npos);
}

}  // namespace
}  // namespace lockstep
