// What a tokenizer.json may not say. Each case edits one place of a valid file.
#include <gtest/gtest.h>

#include "text/sample_tokenizer.h"
#include "text/tokenizer.h"

namespace lockstep {
namespace {

const SampleTokenizer kSample = {.merges = {{"a", "b"}},
                                 .added = {{.id = 300, .content = "<s>", .special = true}},
                                 .nfc = true,
                                 .bos = 300};

Status load_with(std::string_view from, std::string_view to) {
  std::string json = sample_tokenizer_json(kSample);
  const size_t at = json.find(from);
  EXPECT_NE(at, std::string::npos) << from << " in " << json;
  json.replace(at, from.size(), to);
  const Result<Tokenizer> tokenizer = Tokenizer::parse(json, "t.json");
  return tokenizer.ok() ? Status() : tokenizer.status();
}

void expect_refusal(std::string_view from, std::string_view to, Code code, std::string_view message) {
  const Status status = load_with(from, to);
  EXPECT_EQ(status.message(), message);
  EXPECT_EQ(name_of(status.code()), name_of(code)) << message;
}

TEST(TokenizerFile, IsTakenAsItIs) { EXPECT_TRUE(load_with("NFC", "NFC").ok()); }

TEST(TokenizerFile, OfAnotherKindIsUnimplemented) {
  expect_refusal(
      R"("BPE")", R"("Unigram")", Code::kUnimplemented,
      "t.json: model.type is \"Unigram\"; expected BPE of bytes, or of characters with byte_fallback");
  expect_refusal(R"("pre_tokenizer":)", R"("was_pre_tokenizer":)", Code::kUnimplemented,
                 "t.json: the document has no pre_tokenizer; expected BPE of bytes, or of characters "
                 "with byte_fallback");
  expect_refusal(R"("decoder":)", R"("was_decoder":)", Code::kUnimplemented,
                 "t.json: the document has no decoder; expected BPE of bytes, or of characters with "
                 "byte_fallback");
  expect_refusal(
      R"("decoder":{"type":"ByteLevel"})", R"("decoder":{"type":"ByteFallback"})", Code::kUnimplemented,
      "t.json: decoder.type is \"ByteFallback\"; expected ByteLevel, the one that this engine has");
  expect_refusal("NFC", "NFKC", Code::kUnimplemented,
                 "t.json: normalizer.type is \"NFKC\"; expected NFC, Prepend, Replace or Sequence, the ones "
                 "that this engine has");
  expect_refusal("TemplateProcessing", "BertProcessing", Code::kUnimplemented,
                 "t.json: post_processor.type is \"BertProcessing\"; expected ByteLevel, at most one "
                 "TemplateProcessing, or a Sequence of them");
}

TEST(TokenizerFile, WithOptionsThatChangeMergingIsUnimplemented) {
  expect_refusal(R"("ignore_merges":false)", R"("dropout":0.1)", Code::kUnimplemented,
                 "t.json: model.dropout is 0.1; expected no dropout");
  expect_refusal(R"("ignore_merges":false)", R"("end_of_word_suffix":"</w>")", Code::kUnimplemented,
                 "t.json: model.end_of_word_suffix is \"</w>\"; expected BPE of bytes, or of characters "
                 "with byte_fallback");
  EXPECT_TRUE(load_with(R"("ignore_merges":false)", R"("dropout":null,"end_of_word_suffix":"")").ok());
}

TEST(TokenizerFile, WithMergesOfUnknownTokensIsRefused) {
  expect_refusal(
      R"(["a","b"])", R"(["a","c"])", Code::kInvalidArgument,
      "t.json: model.merges[0] merges a and c; expected both and what they join to in model.vocab");
  expect_refusal(R"(["a","b"])", R"("a b c")", Code::kInvalidArgument,
                 "t.json: model.merges[0] is \"a b c\"; expected two tokens with one space between");
  expect_refusal(R"(["a","b"])", R"(["a"])", Code::kInvalidArgument,
                 "t.json: model.merges[0] is an array of 1; expected two tokens");
  EXPECT_TRUE(load_with(R"(["a","b"])", R"("#version: 0.2","a b")").ok());
}

TEST(TokenizerFile, WithIdsThatClashOrExplodeIsRefused) {
  expect_refusal(R"("ab":256)", R"("ab":97)", Code::kInvalidArgument,
                 "t.json: model.vocab: id 97 is given to a and ab; expected one token per id");
  expect_refusal(R"("ab":256)", R"("ab":4000000000)", Code::kResourceExhausted,
                 "t.json: model.vocab: token ab has id 4000000000; expected an id in 0..2097151");
  expect_refusal(R"("id":300)", R"("id":97)", Code::kInvalidArgument,
                 "t.json: added_tokens[0]: id 97 is given to a and <s>; expected one token per id");
  expect_refusal(R"("id":300)", R"("id":-1)", Code::kInvalidArgument,
                 "t.json: added_tokens[0].id is -1; expected an integer in 0..2097151");
  expect_refusal(R"("ids":[300])", R"("ids":[299])", Code::kInvalidArgument,
                 "t.json: post_processor.special_tokens.bos.ids[0] is 299; expected the id of a token");
}

TEST(TokenizerFile, WithAddedTokensThatSayTooLittleIsRefused) {
  expect_refusal(R"("lstrip":false,)", "", Code::kInvalidArgument,
                 "t.json: added_tokens[0].lstrip is missing; expected true or false");
  expect_refusal(R"("content":"<s>")", R"("content":"")", Code::kInvalidArgument,
                 "t.json: added_tokens[0].content has 0 bytes; expected 1..1024");
}

TEST(TokenizerFile, WithATemplateOfTwoTextsIsUnimplemented) {
  expect_refusal(R"({"Sequence":{"id":"A"}})", R"({"Sequence":{"id":"B"}})", Code::kUnimplemented,
                 "t.json: post_processor.single is an array of 2; expected sequence A once");
}

TEST(TokenizerFile, ThatIsNoJsonNamesItself) {
  EXPECT_EQ(Tokenizer::parse("{", "t.json").status().code(), Code::kInvalidArgument);
  EXPECT_EQ(Tokenizer::parse("{}", "t.json").status().message(),
            "t.json: model is missing; expected an object");
}

}  // namespace
}  // namespace lockstep
