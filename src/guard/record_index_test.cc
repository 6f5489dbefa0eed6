#include "guard/record_index.h"

#include <gtest/gtest.h>

#include <map>

#include "guard/test_record.h"

namespace lockstep {
namespace {

// The tensors of a record's parts, handed out once each.
TensorSource source_of(const RecordParts& parts) {
  auto tensors = std::make_shared<std::map<std::string, RecordTensor, std::less<>>>();
  for (const NamedTensor& tensor : parts.tensors) tensors->emplace(tensor.name, *tensor.values);
  return [tensors](std::string_view name) -> Result<RecordTensor> {
    const auto found = tensors->find(name);
    if (found == tensors->end()) return error(Code::kInvalidArgument, "no tensor ", name);
    return found->second;
  };
}

// A record's index with one piece of text replaced.
std::string changed(std::string_view from, std::string_view to) {
  const Record record = test_record::full();
  std::string index = take_apart(record).index;
  const size_t at = index.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return index.replace(at, from.size(), to);
}

std::string refusal(const std::string& index) {
  const Record record = test_record::full();
  const Result<Record> read = put_together(index, source_of(take_apart(record)), "a.record");
  return read.ok() ? "" : read.status().message();
}

TEST(RecordIndex, ReadsBackWhatWasWritten) {
  const Record record = test_record::full();
  const RecordParts parts = take_apart(record);

  const Result<Record> read = put_together(parts.index, source_of(parts), "a.record");

  ASSERT_TRUE(read.ok()) << read.status().message();
  const RecordParts again = take_apart(*read);
  EXPECT_EQ(again.index, parts.index);
  ASSERT_EQ(again.tensors.size(), parts.tensors.size());
  for (size_t i = 0; i < parts.tensors.size(); ++i) {
    EXPECT_EQ(again.tensors[i].name, parts.tensors[i].name);
    EXPECT_EQ(*again.tensors[i].values, *parts.tensors[i].values) << parts.tensors[i].name;
  }
  EXPECT_EQ(read->steps.at(0).head, record.steps.at(0).head);
  EXPECT_EQ(read->findings.at(0).rows, record.findings.at(0).rows);
  EXPECT_EQ(read->rerun.at(0).oracle_difference, record.rerun.at(0).oracle_difference);
}

TEST(RecordIndex, NamesTensorsByWhatTheyAreOf) {
  const Record record = test_record::full();
  std::vector<std::string> names;
  for (const NamedTensor& tensor : take_apart(record).tensors) names.push_back(tensor.name);

  EXPECT_EQ(names, (std::vector<std::string>{"ranks/rank0/tables/group0/edits", "steps/7/rank0/plan",
                                             "first_bad_launch/rank0/captured/layer_input/values",
                                             "first_bad_launch/rank0/captured/layer_input/values#2"}));
}

TEST(RecordIndex, KeepsEveryTimeUnderTimes) {
  const std::string index = take_apart(test_record::full()).index;
  const size_t times = index.find("\"times\":");

  ASSERT_NE(times, std::string::npos);
  EXPECT_GT(index.find("_ns\""), times);
}

TEST(RecordIndex, RefusesWhatIsNoIndexInOneSentence) {
  struct Bad {
    std::string index;
    std::string message;
  };
  for (const Bad& bad : std::vector<Bad>{
           {"[]", "a.record: the document is an array of 0; expected an object"},
           {changed("\"version\":2", "\"version\":3"),
            "a.record: is a record of version 3; expected version 2; read it with the lockstep that wrote "
            "it"},
           {changed("\"run\":\"eager\"", "\"run\":\"walked\""),
            "a.record: steps[0].run is \"walked\"; expected one of eager, captured, replayed, refused"},
           {changed("\"moment\":\"plan\"", "\"moment\":\"tea\""),
            "a.record: fault[0].moment is \"tea\"; expected one of plan, bind, capture, launch, replay, "
            "group, "
            "commit, poison"},
           {changed("\"kind\":\"paged\"", "\"kind\":\"heap\""),
            "a.record: ranks[0].limits.groups[0].kind is \"heap\"; expected one of paged, state"},
           {changed("\"plan_digest\":\"00", "\"plan_digest\":\"0x"),
            "a.record: steps[0].plan_digest is \"0x0000000000000b\"; expected 16 hexadecimal digits"},
           {changed("\"rows\":[26,27", "\"rows\":[26,2700000000"),
            "a.record: findings[0].rows[1] is 2700000000; expected an integer in -2147483648..2147483647"},
           {changed("\"nan\":8192", "\"nan\":\"many\""),
            "a.record: findings[0].nan is \"many\"; expected an integer"},
           {changed("steps/7/rank0/plan", "steps/8/rank0/plan"), "no tensor steps/8/rank0/plan"},
           {changed("\"ledger\":", "\"legder\":"), "a.record: ledger is missing; expected a value"}}) {
    EXPECT_EQ(refusal(bad.index), bad.message);
  }
}

TEST(RecordIndex, RefusesMoreEntriesThanAnyRecordHas) {
  std::string many = "\"rerun\":[0";
  for (int i = 0; i < 65536; ++i) many += ",0";
  const Record none;
  std::string index = take_apart(none).index;
  index.replace(index.find("\"rerun\":["), 9, many);

  const Result<Record> read = put_together(index, source_of({}), "a.record");

  ASSERT_FALSE(read.ok());
  EXPECT_EQ(read.status().message(), "a.record: rerun has 65537 entries; expected at most 65536");
}

}  // namespace
}  // namespace lockstep
