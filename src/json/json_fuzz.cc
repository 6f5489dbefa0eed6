// Any bytes at all: the parser must answer without a crash, and what it accepts must be safe to walk.
#include <cstddef>
#include <cstdint>

#include "base/check.h"
#include "json/json.h"
#include "json/json_writer.h"
#include "json/utf8.h"

namespace lockstep {
namespace {

void copy(const Json& json, JsonWriter& out) {
  switch (json.kind()) {
    case Json::Kind::kNull: out.value(nullptr); break;
    case Json::Kind::kBool: out.value(json.as_bool().value()); break;
    case Json::Kind::kInteger: out.value(json.as_integer().value()); break;
    case Json::Kind::kUnsigned: out.value(json.as_unsigned().value()); break;
    case Json::Kind::kDouble: out.value(json.as_number().value()); break;
    case Json::Kind::kString: out.value(json.as_string().value()); break;
    case Json::Kind::kArray:
      out.begin_array();
      for (const Json& item : json) copy(item, out);
      out.end_array();
      break;
    case Json::Kind::kObject:
      out.begin_object();
      for (const Json& member : json) {
        LS_CHECK(json.contains(member.key()), "a member that its own key does not find: ", member.key());
        copy(member, out.key(member.key()));
      }
      out.end_object();
      break;
  }
}

std::string written(const Json& json) {
  JsonWriter out;
  copy(json, out);
  return std::move(out).take();
}

}  // namespace
}  // namespace lockstep

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace lockstep;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const Result<Json> json = parse_json(text, {.max_bytes = 1 << 20, .max_values = 1 << 16}, "fuzz");
  if (!json.ok()) {
    LS_CHECK(!find_invalid_utf8(json.status().message()), "a message that is not UTF-8");
    return 0;
  }
  // Written out and read again, the document is the same; a whole double loses its point, so compare texts
  // from the second round on.
  const std::string once = written(json.value());
  const Result<Json> again = parse_json(once, {}, "again");
  if (!again.ok()) {
    // 1e19 is a double that is written without exponent and then overflows the integers.
    LS_CHECK(again.status().message().find("64 bits") != std::string::npos, again.status().message());
    return 0;
  }
  LS_CHECK(written(again.value()) == once, "a round trip changed ", once);
  return 0;
}
