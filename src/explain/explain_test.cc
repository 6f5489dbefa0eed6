#include "explain/explain.h"

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>

#include "engine/record_file.h"
#include "explain/field_report.h"

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

  EXPECT_EQ(
      said(record, "ranks"),
      "collective 8: rank 0 entered all_gather over experts of 61440 bf16, rank 1 never came; its last was 7 "
      "[seen]");
}

TEST(Explain, NamesRanksThatEnteredDifferentCollectives) {
  Record record = field_report::record();
  record.ledger.back().count = 5;

  EXPECT_EQ(
      said(record, "ranks"),
      "collective 8: rank 0 entered all_gather over experts of 61440 bf16, rank 1 entered all_gather over "
      "experts of 5 bf16 [seen]");
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
                         "bindings", "device", "ranks"})
    EXPECT_NE(json.find(concat("{\"id\":\"", id, "\"")), std::string::npos) << id;
  EXPECT_NE(json.find("\"state\":\"first\""), std::string::npos);
  EXPECT_NE(json.find("{\"owner\":\"unowned\",\"sequence\":-1,\"bad\":true}"), std::string::npos);
}

}  // namespace
}  // namespace lockstep
