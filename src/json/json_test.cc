#include "json/json.h"

#include <gtest/gtest.h>

#include <fstream>

#include "base/clock.h"

namespace lockstep {
namespace {

Json parsed(std::string_view text) {
  Result<Json> json = parse_json(text, {}, "config.json");
  EXPECT_TRUE(json.ok()) << json.status().message();
  return std::move(json).value();
}

std::string refusal(std::string_view text, const JsonLimits& limits = {}) {
  const Result<Json> json = parse_json(text, limits, "config.json");
  return json.ok() ? "accepted" : json.status().message();
}

template <typename T>
std::string message_of(const Result<T>& result) {
  return result.ok() ? "ok" : result.status().message();
}

TEST(Json, ReadsEveryKindOfValue) {
  const Json json = parsed(R"({"n":null,"t":true,"i":-7,"u":18446744073709551615,"d":1.5e-6,"s":"a\u00e9\n",
                              "a":[1,2,3],"o":{"k":"v"}})");

  EXPECT_TRUE(json.value("n").value().is_null());
  EXPECT_TRUE(json.boolean("t").value());
  EXPECT_EQ(json.integer("i").value(), -7);
  EXPECT_EQ(json.value("u").value().as_unsigned().value(), 18446744073709551615u);
  EXPECT_EQ(json.number("d").value(), 1.5e-6);
  EXPECT_EQ(json.number("i").value(), -7.0);
  EXPECT_EQ(json.string("s").value(), "aé\n");
  EXPECT_EQ(json.integers("a").value(), (std::vector<int64_t>{1, 2, 3}));
  EXPECT_EQ(json.object("o").value().string("k").value(), "v");
}

TEST(Json, KeepsMembersInTheOrderOfTheText) {
  const Json json = parsed(R"({"zebra":1,"apple":2,"mango":3})");

  std::string order;
  for (const Json& member : json) order += concat(member.key(), '=', member.as_integer().value(), ' ');

  EXPECT_EQ(order, "zebra=1 apple=2 mango=3 ");
}

TEST(Json, FindsEveryKeyOfALargeObject) {
  std::string text = "{";
  for (int i = 0; i < 1000; ++i) text += concat(i > 0 ? "," : "", "\"k", i, "\":", i);
  const Json json = parsed(text + "}");

  EXPECT_EQ(json.size(), 1000u);
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(json.integer(concat('k', i)).value(), i);
  EXPECT_EQ(json[999].key(), "k999");
  EXPECT_FALSE(json.find("k1000"));
}

TEST(Json, NamesPathAndRangeOfAnIntegerThatDoesNotFit) {
  const Json json = parsed(R"({"layers":-3,"rope":{"dims":[1,"two"]},"eps":1e-6})");

  EXPECT_EQ(message_of(json.integer("layers", 1, 4096)),
            "config.json: layers is -3; expected an integer in 1..4096");
  EXPECT_EQ(message_of(json.object("rope").value().integers("dims")),
            "config.json: rope.dims[1] is \"two\"; expected an integer");
  EXPECT_EQ(message_of(json.integer("eps", 1)),
            "config.json: eps is 1e-06; expected an integer of at least 1");
  EXPECT_EQ(message_of(json.number("eps", 1, 2)), "config.json: eps is 1e-06; expected a number in 1..2");
  EXPECT_EQ(json.integer("layers", 1).status().code(), Code::kInvalidArgument);
}

TEST(Json, NamesWhatIsMissing) {
  const Json json = parsed(R"({"rope":{}})");

  EXPECT_EQ(message_of(json.integer("layers", 1, 64)),
            "config.json: layers is missing; expected an integer in 1..64");
  EXPECT_EQ(message_of(json.object("rope").value().string("type")),
            "config.json: rope.type is missing; expected a string");
  EXPECT_EQ(message_of(json.array("rope")), "config.json: rope is an object; expected an array");
  EXPECT_EQ(message_of(parsed("[]").string("x")),
            "config.json: the document is an array of 0; expected an object");
}

TEST(Json, TakesAbsentAndNullForTheFallbackButNoWrongType) {
  const Json json = parsed(R"({"window":null,"tie":"yes"})");

  EXPECT_EQ(json.integer_or("window", 4096).value(), 4096);
  EXPECT_EQ(json.number_or("theta", 1e4).value(), 1e4);
  EXPECT_EQ(json.string_or("act", "silu").value(), "silu");
  EXPECT_FALSE(json.find("window"));
  EXPECT_TRUE(json.contains("window"));
  EXPECT_EQ(message_of(json.boolean_or("tie", false)), "config.json: tie is \"yes\"; expected true or false");
}

TEST(Json, RefusesDuplicateKeysByPath) {
  EXPECT_EQ(refusal(R"({"a":{"b":1,"c":2,"b":3}})"),
            "config.json: a.b is given twice; expected every key of an object once");
  EXPECT_EQ(refusal(R"([0,{"x":1,"\u0078":2}])"),
            "config.json: [1].x is given twice; expected every key of an object once");
}

TEST(Json, RefusesNumbersThatOverflow) {
  EXPECT_EQ(refusal(R"({"n":18446744073709551616})"),
            "config.json: n is 18446744073709551616; expected a whole number of 64 bits or a finite double");
  EXPECT_EQ(refusal(R"({"n":-9223372036854775809})"),
            "config.json: n is -9223372036854775809; expected a whole number of 64 bits or a finite double");
  EXPECT_EQ(parsed("-9223372036854775808").as_integer().value(), Json::kLowest);
  EXPECT_NE(refusal("1e400"), "accepted");
}

TEST(Json, RefusesWhatIsNotOneDocument) {
  EXPECT_EQ(refusal("{\"a\": 1,\n \"b\": ]}"),
            "config.json: line 2, column 7 has unexpected ']'; expected '[', '{', or a literal");
  for (const char* text : {"", " ", "{} x", "{}{}", "[1,]", "{\"a\"}", "nul", "01", "'a'", "\"\\ud800\"", "[",
                           "\"\x01\"", "// c\n1", "NaN", "Infinity", "-", "1.", "{1:2}"})
    EXPECT_NE(refusal(text), "accepted") << text;
  EXPECT_EQ(refusal("\"\xC3(\""), "config.json: byte 1 is not UTF-8; expected JSON text in UTF-8");
}

TEST(Json, HoldsToItsLimits) {
  const std::string deep(65, '[');

  EXPECT_NE(refusal(deep).find("is nested deeper than 64 levels; expected at most that many"),
            std::string::npos);
  EXPECT_EQ(refusal("[[1]]", {.max_depth = 1}),
            "config.json: [0] is nested deeper than 1 levels; expected at most that many");
  EXPECT_EQ(refusal("[1,2]", {.max_bytes = 4}), "config.json: the document has 5 bytes; expected at most 4");
  EXPECT_EQ(refusal("[1,2]", {.max_values = 2}),
            "config.json: the document has more than 2 values; expected at most that many");
  EXPECT_EQ(parse_json(deep, {}, "x").status().code(), Code::kResourceExhausted);
}

TEST(Json, KeepsForeignBytesOutOfMessages) {
  const Json json = parsed(concat("{\"k\\u0007\":\"", std::string(100, 'x'), "\"}"));

  EXPECT_EQ(message_of(json[0].as_integer()),
            concat("config.json: k? is \"", std::string(60, 'x'), "...\"; expected an integer"));
}

TEST(Json, OutlivesItsParentAndItsText) {
  std::optional<Json> inner;
  {
    const std::string text = R"({"a":{"b":"kept"}})";
    inner = parsed(text).find("a");
  }

  EXPECT_EQ(inner->string("b").value(), "kept");
}

TEST(Json, ReadsTenMegabytesWithinASecond) {
  std::string text = "{";
  for (int i = 0; text.size() < 10'000'000; ++i)
    text += concat(i > 0 ? "," : "", "\"token number ", i, "\":", i, ",\"pair ", i, "\":[\"ab\",\"cd\"]");
  text += "}";

  const int64_t start = now_ns();
  const Json json = parsed(text);
  const double seconds = seconds_since(start);

  EXPECT_GT(json.size(), 100'000u);
  EXPECT_LT(seconds, 4.0) << "loose: sanitizers and busy machines share this test";
}

TEST(Json, ReadsAFileAndNamesOneThatIsNotThere) {
  const std::string path = testing::TempDir() + "json_test_small.json";
  std::ofstream(path) << R"({"a":1})";

  EXPECT_EQ(parse_json_file(path).value().integer("a").value(), 1);
  const Status missing = parse_json_file("/nowhere/config.json").status();
  EXPECT_EQ(missing.code(), Code::kNotFound);
  EXPECT_EQ(missing.message(), "/nowhere/config.json: cannot be opened; expected a readable JSON file");
  EXPECT_EQ(parse_json_file("/").status().code(), Code::kNotFound);
}

}  // namespace
}  // namespace lockstep
