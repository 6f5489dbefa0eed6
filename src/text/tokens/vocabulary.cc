#include "text/tokens/vocabulary.h"

#include <array>

#include "json/utf8.h"

namespace lockstep {
namespace {

constexpr bool spells_itself(unsigned byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

constexpr auto kCharOfByte = [] {
  std::array<char32_t, 256> table{};
  char32_t next = 0x100;
  for (unsigned byte = 0; byte < 256; ++byte) table[byte] = spells_itself(byte) ? byte : next++;
  return table;
}();

// 256 + the 68 bytes that do not spell themselves.
constexpr auto kByteOfChar = [] {
  std::array<int16_t, 256 + 68> table{};
  for (int16_t& entry : table) entry = -1;
  for (size_t byte = 0; byte < 256; ++byte) table[kCharOfByte[byte]] = static_cast<int16_t>(byte);
  return table;
}();

std::optional<uint8_t> hex_digit(char c) {
  if (c >= '0' && c <= '9') return static_cast<uint8_t>(c - '0');
  if (c >= 'A' && c <= 'F') return static_cast<uint8_t>(c - 'A' + 10);
  if (c >= 'a' && c <= 'f') return static_cast<uint8_t>(c - 'a' + 10);
  return std::nullopt;
}

// "<0x0A>", or U+2581 in place of spaces.
std::string decoded_characters(std::string_view content) {
  constexpr std::string_view kSpace = "\u2581";
  if (content.size() == 6 && content.starts_with("<0x") && content.ends_with('>')) {
    const auto high = hex_digit(content[3]), low = hex_digit(content[4]);
    if (high && low) return std::string(1, static_cast<char>(*high * 16 + *low));
  }
  std::string bytes;
  for (size_t at = 0; at < content.size();) {
    const bool space = content.substr(at).starts_with(kSpace);
    bytes.push_back(space ? ' ' : content[at]);
    at += space ? kSpace.size() : 1;
  }
  return bytes;
}

std::string decoded_alphabet(std::string_view content) {
  std::string bytes;
  for (size_t at = 0; at < content.size();) {
    const Utf8Char next = decode_utf8(content, at);
    const auto byte = byte_of_char(next.code);
    if (next.state != Utf8State::kValid || !byte) return std::string(content);
    bytes.push_back(static_cast<char>(*byte));
    at += next.size;
  }
  return bytes;
}

}  // namespace

char32_t char_of_byte(uint8_t byte) { return kCharOfByte[byte]; }

std::optional<uint8_t> byte_of_char(char32_t code) {
  if (code >= kByteOfChar.size() || kByteOfChar[code] < 0) return std::nullopt;
  return static_cast<uint8_t>(kByteOfChar[code]);
}

void append_spelling(std::string& out, std::string_view bytes) {
  for (const char c : bytes) append_utf8(out, kCharOfByte[static_cast<unsigned char>(c)]);
}

Status Vocabulary::add(std::string_view text, int64_t id, std::string_view who) {
  if (id < 0 || id >= kMaxIds)
    return error(Code::kResourceExhausted, who, ": token ", excerpt(text, 64), " has id ", id,
                 "; expected an id in 0..", kMaxIds - 1);
  if (text.size() > kMaxTokenBytes)
    return error(Code::kResourceExhausted, who, ": token ", id, " has ", text.size(),
                 " bytes; expected at most ", kMaxTokenBytes);
  const auto narrow = static_cast<int32_t>(id);
  const auto known = by_content_.find(text);
  if (known != by_content_.end()) {
    if (known->second == narrow) return {};
    return error(Code::kInvalidArgument, who, ": token ", excerpt(text, 64), " has ids ", known->second,
                 " and ", id, "; expected one");
  }
  if (contains(narrow))
    return error(Code::kInvalidArgument, who, ": id ", id, " is given to ", excerpt(content(narrow), 64),
                 " and ", excerpt(text, 64), "; expected one token per id");
  if (narrow >= size()) by_id_.resize(static_cast<size_t>(narrow) + 1);
  Token& token = by_id_[static_cast<size_t>(narrow)];
  token.content = pool_.emplace_back(text);
  std::string bytes =
      spelling_ == Spelling::kByteAlphabet ? decoded_alphabet(text) : decoded_characters(text);
  token.bytes = bytes == text ? token.content : pool_.emplace_back(std::move(bytes));
  token.used = true;
  by_content_.emplace(token.content, narrow);
  return {};
}

std::optional<int32_t> Vocabulary::find(std::string_view text) const {
  const auto found = by_content_.find(text);
  return found == by_content_.end() ? std::nullopt : std::optional(found->second);
}

std::string_view Vocabulary::bytes(int32_t id) const {
  return contains(id) ? by_id_[static_cast<size_t>(id)].bytes : std::string_view();
}

std::string_view Vocabulary::content(int32_t id) const {
  return contains(id) ? by_id_[static_cast<size_t>(id)].content : std::string_view();
}

}  // namespace lockstep
