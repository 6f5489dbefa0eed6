#include "json/json_writer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "json/json.h"

namespace lockstep {
namespace {

TEST(JsonWriter, WritesNestedContainersWithCommasWhereTheyBelong) {
  JsonWriter json;
  json.begin_object()
      .member("ok", true)
      .key("ids")
      .begin_array()
      .value(1)
      .value(-2)
      .begin_array()
      .end_array();
  json.end_array().member("name", "x").key("none").value(nullptr).end_object();

  EXPECT_EQ(std::move(json).take(), R"({"ok":true,"ids":[1,-2,[]],"name":"x","none":null})");
}

TEST(JsonWriter, EscapesWhatJsonDemandsAndReplacesWhatIsNotUtf8) {
  JsonWriter json;
  json.value(std::string_view("\"\\\n\r\t\x01\x7F\0é\xFF", 11));

  EXPECT_EQ(std::move(json).take(), "\"\\\"\\\\\\n\\r\\t\\u0001\\u007f\\u0000é\xEF\xBF\xBD\"");
}

TEST(JsonWriter, WritesNumbersThatReadBackEqual) {
  JsonWriter json;
  json.begin_array().value(0.1).value(1e300).value(5.0).value(std::numeric_limits<int64_t>::min());
  json.value(std::numeric_limits<uint64_t>::max()).value(size_t{3}).end_array();

  const std::string text = std::move(json).take();

  EXPECT_EQ(text, "[0.1,1e+300,5,-9223372036854775808,18446744073709551615,3]");
  EXPECT_TRUE(parse_json(text, {}, "writer").ok());
}

TEST(JsonWriter, KeepsTheSignOfANegativeZero) {
  JsonWriter json;
  json.value(-0.0);

  const std::string text = std::move(json).take();

  EXPECT_EQ(text, "-0.0");
  EXPECT_TRUE(std::signbit(parse_json(text, {}, "writer").value().as_number().value()));
}

TEST(JsonWriter, WritesNonFiniteNumbersAsNull) {
  JsonWriter json;
  json.begin_array().value(std::numeric_limits<double>::infinity()).value(std::nan("")).end_array();

  EXPECT_EQ(std::move(json).take(), "[null,null]");
}

TEST(JsonWriter, EndsTheProcessOnCallsThatFormNoJson) {
  EXPECT_DEATH(JsonWriter().begin_object().value(1), "a value without a key");
  EXPECT_DEATH(JsonWriter().begin_object().end_array(), "no open container");
  EXPECT_DEATH(JsonWriter().value(1).value(2), "a second document");
}

}  // namespace
}  // namespace lockstep
