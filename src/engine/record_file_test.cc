#include "engine/record_file.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "guard/record_index.h"
#include "guard/test_record.h"

namespace lockstep {
namespace {

std::string bytes_of(const Record& record) {
  const Result<std::string> bytes = record_bytes(record);
  EXPECT_TRUE(bytes.ok()) << bytes.status().message();
  return bytes.ok() ? *bytes : "";
}

Result<Record> parse(const std::string& bytes) {
  return parse_record({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()}, "a.record");
}

std::string refusal(const std::string& bytes) {
  const Result<Record> record = parse(bytes);
  return record.ok() ? "" : record.status().message();
}

// A file whose header is `header`.
std::string file_with(const std::string& header) {
  std::string bytes(8, '\0');
  for (size_t i = 0; i < 8; ++i) bytes[i] = static_cast<char>(header.size() >> (8 * i) & 0xFF);
  return bytes + header;
}

TEST(RecordFile, IsReadBackAsItWasWritten) {
  const std::string folder = testing::TempDir() + "lockstep-record-file";
  std::filesystem::create_directories(folder);
  const Record record = test_record::full();

  if (std::getenv("LOCKSTEP_WRITE_GOLDEN") != nullptr)  // for the fuzzer to begin from
    std::ofstream(LOCKSTEP_SOURCE_DIR "/tests/fuzz/record_file/full") << bytes_of(record);

  const Result<std::string> path = write_record(record, folder);
  ASSERT_TRUE(path.ok()) << path.status().message();
  const Result<Record> read = read_record(*path);

  EXPECT_EQ(*path, folder + "/lockstep-0-7.record");
  ASSERT_TRUE(read.ok()) << read.status().message();
  EXPECT_EQ(bytes_of(*read), bytes_of(record));
  EXPECT_EQ(read->steps.at(0).plan, record.steps.at(0).plan);
  EXPECT_FALSE(std::filesystem::exists(*path + ".partial"));
  std::filesystem::remove_all(folder);
}

TEST(RecordFile, IsNamedAfterRankAndStep) {
  Record record = test_record::full();
  record.faults.clear();
  record.steps[0].epoch = 12;
  record.ranks[0].rank = 3;
  EXPECT_EQ(record_name(record), "lockstep-3-12.record");

  record.ranks.push_back({.rank = 4});
  EXPECT_EQ(record_name(record), "lockstep-12.merged.record");
}

TEST(RecordFile, RefusesWhatIsNoRecordInOneSentence) {
  const std::string whole = bytes_of(test_record::full());
  struct Bad {
    std::string bytes;
    std::string message;
  };
  std::string other_version = whole;
  const std::string version = "\\\"version\\\":2";
  other_version.replace(other_version.find(version), version.size(), "\\\"version\\\":9");
  std::string same_plan = whole;
  const std::string edits = R"(\"edits\":\"ranks/rank0/tables/group0/edits\")";
  const std::string plan = R"(\"edits\":\"steps/7/rank0/plan\")";
  same_plan.replace(same_plan.find(edits), edits.size(), plan + std::string(edits.size() - plan.size(), ' '));
  const int header_bytes = static_cast<uint8_t>(whole[0]) + 256 * static_cast<uint8_t>(whole[1]);
  const std::vector<Bad> all = {
      {"", "a.record: has 0 bytes; expected at least 8 for the length of the header; fetch the file again"},
      {"hello, world",
       "a.record: the header has 8583909746840200552 bytes; expected at most 100000000; this is no "
       "safetensors "
       "file"},
      {whole.substr(0, 100),
       concat("a.record: the header has ", header_bytes,
              " bytes; expected at most the 92 that follow; the file is truncated, fetch it "
              "again")},
      {file_with("{}"),
       "a.record: has no lockstep_record in its metadata; expected a record that lockstep wrote"},
      {file_with(R"({"__metadata__":{"lockstep_record":"{}"}})"),
       "a.record: version is missing; expected an integer"},
      {file_with(R"({"__metadata__":{"lockstep_record":"nonsense"}})"),
       "a.record: line 1, column 2 has invalid literal; expected JSON text in UTF-8"},
      {other_version,
       "a.record: is a record of version 9; expected version 2; read it with the lockstep that wrote it"},
      {same_plan,
       "a.record: the index names tensor steps/7/rank0/plan, which the file has not, or twice; expected each "
       "tensor once"}};
  for (const Bad& bad : all) {
    EXPECT_EQ(refusal(bad.bytes), bad.message);
  }
}

TEST(RecordFile, RefusesAFileThatEndsAnywhere) {
  const std::string whole = bytes_of(test_record::full());
  for (size_t size = 0; size < whole.size(); size += 37) {
    EXPECT_NE(refusal(whole.substr(0, size)), "") << size << " of " << whole.size() << " bytes";
  }
}

TEST(RecordFile, SaysThatThereIsNoFile) {
  const Result<Record> missing = read_record("no/such.record");

  EXPECT_EQ(missing.status().code(), Code::kNotFound);
  EXPECT_EQ(missing.status().message(),
            "no/such.record: cannot be opened (No such file or directory); expected a readable file");
}

}  // namespace
}  // namespace lockstep
