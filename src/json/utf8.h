// Reading UTF-8 one character at a time: the one decoder that validation, scanning, replacement and streaming
// share, so that they agree on what a broken sequence is.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace lockstep {

enum class Utf8State : uint8_t {
  kValid,      // a whole character
  kTruncated,  // the text ends inside a character that may yet become valid
  kInvalid,    // bytes that no character starts with
};

struct Utf8Char {
  char32_t code = 0;  // the code point; meaningless unless kValid
  uint8_t size = 0;   // bytes: of the character, or of the longest part that could begin one
  Utf8State state = Utf8State::kInvalid;
};

// The character that begins at text[at]. Precondition: at < text.size(). Overlong forms, surrogates and
// values above U+10FFFF are invalid. One U+FFFD per non-valid result is what Unicode recommends, and what
// Rust's from_utf8_lossy and Python's errors="replace" do.
constexpr Utf8Char decode_utf8(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[at + i]); };
  const unsigned char first = byte(0);
  if (first < 0x80) return {first, 1, Utf8State::kValid};
  if (first < 0xC2 || first > 0xF4) return {0, 1, Utf8State::kInvalid};
  const uint8_t size = first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
  // The second byte's range excludes overlong forms, surrogates and code points that are too large.
  const unsigned char low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
  const unsigned char high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
  char32_t code = first & (0x7Fu >> size);
  for (uint8_t i = 1; i < size; ++i) {
    if (at + i >= text.size()) return {0, i, Utf8State::kTruncated};
    if (byte(i) < (i == 1 ? low : 0x80) || byte(i) > (i == 1 ? high : 0xBF))
      return {0, i, Utf8State::kInvalid};
    code = code << 6 | (byte(i) & 0x3Fu);
  }
  return {code, size, Utf8State::kValid};
}

// Where the first byte that is not UTF-8 lies; nothing when all of `text` is UTF-8. O(bytes).
constexpr std::optional<size_t> find_invalid_utf8(std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    const Utf8Char next = decode_utf8(text, at);
    if (next.state != Utf8State::kValid) return at;
    at += next.size;
  }
  return std::nullopt;
}

// Appends `code` as UTF-8. Precondition: a Unicode scalar value.
inline void append_utf8(std::string& out, char32_t code) {
  const auto put = [&](char32_t byte) { out.push_back(static_cast<char>(static_cast<unsigned char>(byte))); };
  if (code < 0x80) return put(code);
  if (code < 0x800) {
    put(0xC0 | code >> 6);
  } else {
    if (code < 0x10000) {
      put(0xE0 | code >> 12);
    } else {
      put(0xF0 | code >> 18);
      put(0x80 | (code >> 12 & 0x3F));
    }
    put(0x80 | (code >> 6 & 0x3F));
  }
  put(0x80 | (code & 0x3F));
}

// Appends `bytes` with everything that is not UTF-8 replaced by U+FFFD.
inline void append_lossy_utf8(std::string& out, std::string_view bytes) {
  for (size_t at = 0; at < bytes.size();) {
    const Utf8Char next = decode_utf8(bytes, at);
    if (next.state == Utf8State::kValid) {
      out.append(bytes.substr(at, next.size));
    } else {
      out.append("\xEF\xBF\xBD");
    }
    at += next.size;
  }
}

// `text` cut to `max_bytes` at a character's boundary, control characters and broken bytes as '?': fit to
// stand in a message.
inline std::string excerpt(std::string_view text, size_t max_bytes) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const Utf8Char next = decode_utf8(text, at);
    if (at + next.size > max_bytes) return out + "...";
    const bool plain = next.state == Utf8State::kValid && next.code >= 0x20 && next.code != 0x7F;
    if (plain) {
      out.append(text.substr(at, next.size));
    } else {
      out.push_back('?');
    }
    at += next.size;
  }
  return out;
}

}  // namespace lockstep
