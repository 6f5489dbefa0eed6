#include "weights/safetensors.h"

#include <gtest/gtest.h>

#include <random>

#include "weights/safetensors_writer.h"
#include "weights/test_support.h"

namespace lockstep {
namespace {

constexpr std::string_view kWho = "model.safetensors";

std::string message_of(std::string_view file) {
  const auto header = parse_safetensors(bytes_of(file), kWho);
  return header.ok() ? "(accepted)" : header.status().message();
}

// One tensor of each kind of size: 3 f32, 2 bf16, a scalar u8, an empty i64.
std::string small_file() {
  static const std::vector<float> floats = {1, -2, 3};
  static const std::vector<BFloat16> halves = {BFloat16(0.5f), BFloat16(4)};
  static const std::vector<uint8_t> byte = {7};
  static const std::vector<int64_t> none;
  SafetensorsWriter writer;
  writer.set_metadata("format", "pt");
  EXPECT_TRUE(writer.add("b.floats", view(floats, {3, 1})).ok());
  EXPECT_TRUE(writer.add("a.halves", view(halves, {2})).ok());
  EXPECT_TRUE(writer.add("scalar", view(byte, {})).ok());
  EXPECT_TRUE(writer.add("none", view(none, {0, 4})).ok());
  return writer.bytes();
}

TEST(Safetensors, ReadsBackWhatTheWriterWrote) {
  const std::string file = small_file();

  const auto header = parse_safetensors(bytes_of(file), kWho);

  ASSERT_TRUE(header.ok()) << header.status().message();
  ASSERT_EQ(header->tensors.size(), 4u);
  EXPECT_EQ(header->data_offset % 8, 0);
  EXPECT_EQ(header->metadata, (std::map<std::string, std::string>{{"format", "pt"}}));
  const char* names[] = {"none", "b.floats", "a.halves", "scalar"};
  const Shape shapes[] = {{0, 4}, {3, 1}, {2}, {}};
  const DType dtypes[] = {DType::kI64, DType::kF32, DType::kBF16, DType::kU8};
  const int64_t offsets[] = {0, 0, 12, 16};
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(header->tensors[i].name, names[i]);
    EXPECT_EQ(header->tensors[i].shape, shapes[i]);
    EXPECT_EQ(header->tensors[i].dtype, dtypes[i]);
    EXPECT_EQ(header->tensors[i].offset, header->data_offset + offsets[i]);
  }
  float second = 0;
  std::memcpy(&second, file.data() + header->tensors[1].offset + 4, 4);
  EXPECT_EQ(second, -2.0f);
  EXPECT_EQ(file.back(), 7);
}

TEST(Safetensors, AcceptsTensorsInAnyOrderAndAtOddPlaces) {
  const std::string header =
      R"({"late":{"dtype":"F32","shape":[1],"data_offsets":[1,5]},"first":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}  )";

  const auto parsed = parse_safetensors(bytes_of(safetensors_file(header, "12345")), kWho);

  ASSERT_TRUE(parsed.ok()) << parsed.status().message();
  EXPECT_EQ(parsed->tensors[1].name, "late");
  EXPECT_EQ(parsed->tensors[1].offset, static_cast<int64_t>(8 + header.size() + 1));
}

TEST(Safetensors, AcceptsAFileWithoutTensors) {
  EXPECT_EQ(message_of(safetensors_file("{}", "")), "(accepted)");
}

TEST(Safetensors, RefusesALengthThatDoesNotFitTheFile) {
  std::string huge(8, '\xFF');

  EXPECT_EQ(message_of(""),
            "model.safetensors: has 0 bytes; expected at least 8 for the length of the header; "
            "fetch the file again");
  EXPECT_EQ(
      message_of("1234567"),
      "model.safetensors: has 7 bytes; expected at least 8 for the length of the header; fetch the file "
      "again");
  EXPECT_EQ(
      message_of(huge + "{}"),
      "model.safetensors: the header has 18446744073709551615 bytes; expected at most 100000000; this is "
      "no safetensors file");
  EXPECT_EQ(message_of(safetensors_file("{}", "").substr(0, 9)),
            "model.safetensors: the header has 2 bytes; expected at most the 1 that follow; the file is "
            "truncated, fetch it again");
  EXPECT_EQ(
      message_of(std::string(8, '\0')),
      "model.safetensors: the header begins with nothing; expected a JSON object; this is no safetensors "
      "file");
  EXPECT_EQ(
      message_of(safetensors_file(" {}", "")),
      "model.safetensors: the header begins with byte 32; expected a JSON object; this is no safetensors "
      "file");
}

TEST(Safetensors, RefusesALengthAboveTheFormatsLimitEvenInAHugeFile) {
  const int64_t limit = kMaxSafetensorsHeader;
  const auto prefix_of = [](int64_t length) {
    std::string prefix(8, '\0');
    std::memcpy(prefix.data(), &length, 8);
    return prefix;
  };

  const std::string accepted = prefix_of(limit), refused = prefix_of(limit + 1);

  EXPECT_EQ(safetensors_header_bytes(bytes_of(accepted), int64_t{1} << 40, kWho).value(), limit);
  EXPECT_EQ(safetensors_header_bytes(bytes_of(refused), int64_t{1} << 40, kWho).status().message(),
            "model.safetensors: the header has 100000001 bytes; expected at most 100000000; this is no "
            "safetensors file");
}

struct Refusal {
  const char* header;
  const char* data;
  const char* message;  // after "model.safetensors: "
  friend std::ostream& operator<<(std::ostream& out, const Refusal& refusal) { return out << refusal.header; }
};

class SafetensorsRefusal : public testing::TestWithParam<Refusal> {};

TEST_P(SafetensorsRefusal, NamesTensorAndExpectation) {
  const Refusal& given = GetParam();

  EXPECT_EQ(message_of(safetensors_file(given.header, given.data)),
            "model.safetensors: " + std::string(given.message));
}

INSTANTIATE_TEST_SUITE_P(
    EveryField, SafetensorsRefusal,
    testing::Values(
        Refusal{
            R"({"a":{"dtype":"F8_E8M0","shape":[1],"data_offsets":[0,1]}})", "x",
            "tensor a has dtype F8_E8M0; expected one of F32, F16, BF16, F64, I64, I32, I16, I8, U64, U32, "
            "U16, U8, BOOL, F8_E4M3, F8_E5M2"},
        Refusal{R"({"a":{"shape":[1],"data_offsets":[0,1]}})", "x", "a.dtype is missing; expected a string"},
        Refusal{R"({"a":{"dtype":1,"shape":[1],"data_offsets":[0,1]}})", "x",
                "a.dtype is 1; expected a string"},
        Refusal{R"({"a":[1]})", "x", "a is an array of 1; expected an object"},
        Refusal{R"({"a":{"dtype":"U8","data_offsets":[0,1]}})", "x",
                "a.shape is missing; expected an array of integers"},
        Refusal{R"({"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,1]}})", "x",
                "a.shape[0] is -1; expected an integer of at least 0"},
        Refusal{R"({"a":{"dtype":"U8","shape":[1.5],"data_offsets":[0,1]}})", "x",
                "a.shape[0] is 1.5; expected an integer of at least 0"},
        Refusal{R"({"a":{"dtype":"U8","shape":[18446744073709551615],"data_offsets":[0,1]}})", "x",
                "a.shape[0] is 18446744073709551615; expected an integer of at least 0"},
        Refusal{R"({"a":{"dtype":"U8","shape":[1,1,1,1,1,1,1],"data_offsets":[0,1]}})", "x",
                "tensor a has 7 dimensions; expected at most 6"},
        Refusal{R"({"a":{"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,1]}})", "x",
                "tensor a has shape [4294967296, 4294967296]; expected fewer than 2^63 bytes"},
        Refusal{R"({"a":{"dtype":"F64","shape":[1152921504606846976],"data_offsets":[0,1]}})", "x",
                "tensor a has shape [1152921504606846976]; expected fewer than 2^63 bytes"},
        Refusal{R"({"a":{"dtype":"U8","shape":[1]}})", "x",
                "a.data_offsets is missing; expected an array of integers"},
        Refusal{R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0]}})", "x",
                "tensor a has 1 data_offsets; expected 2: begin and end"},
        Refusal{R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[-1,0]}})", "x",
                "a.data_offsets[0] is -1; expected an integer of at least 0"},
        Refusal{
            R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[1,0]}})", "x",
            "tensor a lies at bytes 1 to 0 of the data; expected begin <= end <= 1; the file is truncated or "
            "damaged, fetch it again"},
        Refusal{
            R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})", "x",
            "tensor a lies at bytes 0 to 2 of the data; expected begin <= end <= 1; the file is truncated or "
            "damaged, fetch it again"},
        Refusal{R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,2]}})", "xy",
                "tensor a has 2 bytes of data; expected 4 for [1] f32"},
        Refusal{R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},)"
                R"("b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})",
                "xyz", "tensor b begins at byte 1 of the data, inside a; expected 2"},
        Refusal{
            R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
            R"("b":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}})",
            "xyz",
            "no tensor holds byte 1 of the data; expected all 3 bytes to be held; the file is damaged, fetch "
            "it again"},
        Refusal{
            R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", "xy",
            "no tensor holds byte 1 of the data; expected all 2 bytes to be held; the file is damaged, fetch "
            "it again"},
        Refusal{R"({"__metadata__":{"format":1}})", "", "__metadata__.format is 1; expected a string"},
        Refusal{R"({"__metadata__":"pt"})", "", "__metadata__ is \"pt\"; expected an object"},
        Refusal{R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                R"("a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
                "x", "a is given twice; expected every key of an object once"},
        Refusal{"{", "", "line 1, column 2 has unexpected end of input; expected string literal"},
        Refusal{R"({"a":{"b":[[1]]}})", "",
                "a.b[0] is nested deeper than 3 levels; expected at most that many"}));

TEST(Safetensors, ShowsOnlyTheBeginningOfANameThatNeverEnds) {
  const std::string name(1'000'000, 'n');
  const std::string header = "{\"" + name + R"(":{"dtype":"F4","shape":[],"data_offsets":[0,0]}})";

  EXPECT_LT(message_of(safetensors_file(header, "")).size(), 400u);
}

TEST(Safetensors, RefusesEveryTruncationOfAFile) {
  const std::string file = small_file();
  ASSERT_EQ(message_of(file), "(accepted)");

  for (size_t length = 0; length < file.size(); ++length) {
    EXPECT_NE(message_of(file.substr(0, length)), "(accepted)") << "cut to " << length << " bytes";
  }
}

// Whatever bytes change, a header that is accepted describes tensors that lie inside the file, one after
// another.
TEST(Safetensors, DescribesOnlyWhatIsThereWhateverBytesChange) {
  const std::string file = small_file();
  const uint64_t seed = 20240607;
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  int accepted = 0;
  for (int round = 0; round < 20'000; ++round) {
    std::string changed = file;
    for (uint64_t changes = 1 + random() % 3; changes > 0; --changes) {
      const size_t at = random() % changed.size();
      if (random() % 4 == 0) {
        changed.erase(at, random() % 3);
      } else {
        changed[at] = random() % 2 == 0 ? "0123456789[]{},:\"-"[random() % 18] : static_cast<char>(random());
      }
    }
    const auto header = parse_safetensors(bytes_of(changed), kWho);
    if (!header.ok()) continue;
    ++accepted;
    int64_t end = header->data_offset;
    for (const StoredTensor& tensor : header->tensors) {
      ASSERT_EQ(tensor.offset, end);
      ASSERT_EQ(tensor.bytes, tensor.shape.elements() * size_of(tensor.dtype));
      end += tensor.bytes;
    }
    ASSERT_EQ(end, static_cast<int64_t>(changed.size()));
  }
  EXPECT_GT(accepted, 500) << "changes of names and data are harmless, so some files must remain valid";
}

TEST(SafetensorsWriter, RefusesNamesAndViewsThatTheFormatCannotHold) {
  std::vector<float> values(6);
  SafetensorsWriter writer;
  ASSERT_TRUE(writer.add("a", view(values, {6})).ok());

  EXPECT_EQ(writer.add("a", view(values, {6})).message(),
            "safetensors writer: a was added before; expected each name once");
  EXPECT_EQ(writer.add("__metadata__", view(values, {6})).message(),
            "safetensors writer: a tensor is named __metadata__, which the format keeps for itself; expected "
            "another name");
  EXPECT_EQ(writer.add("b", view(values, {2, 3}).columns(0, 2)).message(),
            "safetensors writer: b [2, 2] has gaps between its rows; expected dense elements");
}

TEST(SafetensorsWriter, WritesTheSameBytesToDiskAsToMemory) {
  const ScratchFolder folder;
  std::vector<float> values = {1, 2, 3};
  SafetensorsWriter writer;
  writer.set_metadata("quote \"\n", "\xC3\xA9");
  ASSERT_TRUE(writer.add("ü\"", view(values, {3})).ok());

  const Status status = writer.write(folder.file("out.safetensors"));

  ASSERT_TRUE(status.ok()) << status.message();
  EXPECT_EQ(content_of(folder.file("out.safetensors")), writer.bytes());
  const auto header = parse_safetensors(bytes_of(writer.bytes()), kWho);
  ASSERT_TRUE(header.ok()) << header.status().message();
  EXPECT_EQ(header->tensors[0].name, "ü\"");
  EXPECT_EQ(header->metadata.at("quote \"\n"), "\xC3\xA9");
}

TEST(SafetensorsWriter, SaysWhyItCannotWriteAndLeavesNothingBehind) {
  const ScratchFolder folder;
  const std::string path = folder.file("missing/out.safetensors");

  EXPECT_EQ(SafetensorsWriter().write(path).message(),
            path +
                ": cannot be written (No such file or directory); expected a folder with room that may be "
                "written to");
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

}  // namespace
}  // namespace lockstep
