// Writing JSON for machines: `--json` output, records, responses.
//
//   JsonWriter json;
//   json.begin_object().member("ok",
//   true).key("ids").begin_array().value(1).value(2).end_array().end_object(); std::move(json).take();  //
//   {"ok":true,"ids":[1,2]}
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace lockstep {

// Appends `text` as a quoted JSON string; bytes that are not UTF-8 become U+FFFD.
void append_json_string(std::string& out, std::string_view text);

// Builds one compact document. Calls that do not form JSON (a value without a key inside an object, an end
// without a begin) are bugs of the caller and end the process.
class JsonWriter {
 public:
  JsonWriter& begin_object() { return open('{', '}'); }
  JsonWriter& end_object() { return close('}'); }
  JsonWriter& begin_array() { return open('[', ']'); }
  JsonWriter& end_array() { return close(']'); }
  JsonWriter& key(std::string_view name);

  JsonWriter& value(std::string_view text);
  JsonWriter& value(const char* text) { return value(std::string_view(text)); }
  JsonWriter& value(const std::string& text) { return value(std::string_view(text)); }
  JsonWriter& value(double number);  // shortest text that reads back equal; null unless finite
  JsonWriter& value(std::nullptr_t) { return raw("null"); }
  JsonWriter& value(std::same_as<bool> auto boolean) { return raw(boolean ? "true" : "false"); }
  template <std::integral Integer>
  requires(!std::same_as<Integer, bool> && !std::same_as<Integer, char>) JsonWriter& value(Integer number) {
    return raw(std::to_string(number));
  }

  template <typename T>
  JsonWriter& member(std::string_view name, const T& content) {
    return key(name).value(content);
  }

  // A value that is JSON already.
  JsonWriter& raw(std::string_view json);

  // The document. Precondition: complete.
  std::string take() &&;

 private:
  JsonWriter& open(char begin, char end);
  JsonWriter& close(char end);
  void before_value();

  std::string out_;
  std::vector<char> ends_;   // what closes each open container
  bool need_comma_ = false;  // a value stands before, in this container
  bool after_key_ = false;
};

}  // namespace lockstep
