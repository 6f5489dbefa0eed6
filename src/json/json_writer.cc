#include "json/json_writer.h"

#include <array>
#include <charconv>
#include <cmath>
#include <utility>

#include "base/check.h"
#include "json/utf8.h"

namespace lockstep {

void append_json_string(std::string& out, std::string_view text) {
  constexpr std::string_view kHex = "0123456789abcdef";
  std::string valid;
  append_lossy_utf8(valid, text);
  out.push_back('"');
  for (const char c : valid) {
    switch (c) {
      case '"': out += "\\\""; break;
      case '\\': out += "\\\\"; break;
      case '\n': out += "\\n"; break;
      case '\r': out += "\\r"; break;
      case '\t': out += "\\t"; break;
      default: {
        const auto byte = static_cast<unsigned char>(c);
        if (byte >= 0x20 && byte != 0x7F) {
          out.push_back(c);
        } else {
          out += "\\u00";
          out.push_back(kHex[byte >> 4]);
          out.push_back(kHex[byte & 15]);
        }
      }
    }
  }
  out.push_back('"');
}

void JsonWriter::before_value() {
  LS_CHECK(ends_.empty() || ends_.back() == ']' || after_key_, "a value without a key after ", out_);
  LS_CHECK(!ends_.empty() || out_.empty(), "a second document after ", out_);
  if (need_comma_ && !after_key_) out_.push_back(',');
  need_comma_ = true;
  after_key_ = false;
}

JsonWriter& JsonWriter::key(std::string_view name) {
  LS_CHECK(!ends_.empty() && ends_.back() == '}' && !after_key_, "key ", name, " outside an object");
  if (need_comma_) out_.push_back(',');
  append_json_string(out_, name);
  out_.push_back(':');
  after_key_ = true;
  return *this;
}

JsonWriter& JsonWriter::open(char begin, char end) {
  before_value();
  out_.push_back(begin);
  ends_.push_back(end);
  need_comma_ = false;
  return *this;
}

JsonWriter& JsonWriter::close(char end) {
  LS_CHECK(!ends_.empty() && ends_.back() == end && !after_key_, "no open container ends with ", end);
  out_.push_back(end);
  ends_.pop_back();
  need_comma_ = true;
  return *this;
}

JsonWriter& JsonWriter::value(std::string_view text) {
  before_value();
  append_json_string(out_, text);
  return *this;
}

JsonWriter& JsonWriter::value(double number) {
  if (!std::isfinite(number)) return raw("null");
  if (number == 0 && std::signbit(number)) return raw("-0.0");  // "-0" would read back as the integer 0
  std::array<char, 32> digits;
  const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), number).ptr;
  return raw({digits.data(), end});
}

JsonWriter& JsonWriter::raw(std::string_view json) {
  before_value();
  out_ += json;
  return *this;
}

std::string JsonWriter::take() && {
  LS_CHECK(ends_.empty() && !out_.empty(), "an incomplete document: ", out_);
  return std::move(out_);
}

}  // namespace lockstep
