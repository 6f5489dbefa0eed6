#include "text/split/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <span>
#include <vector>

#include "base/check.h"
#include "json/utf8.h"

namespace lockstep {
namespace {

uint8_t compute_classes(char32_t code) {
  uint8_t classes = 0;
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(code))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LT: classes = kLetter | kUpperRun; break;
    case UTF8PROC_CATEGORY_LL: classes = kLetter | kLowerRun; break;
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO: classes = kLetter | kUpperRun | kLowerRun; break;
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME: classes = kMark | kUpperRun | kLowerRun; break;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO: classes = kNumber; break;
    default: break;
  }
  if (is_white_space(code)) classes |= kSpace;
  if (code == '\r' || code == '\n') classes |= kNewline;
  return classes;
}

std::array<uint8_t, 128> ascii_classes() {
  std::array<uint8_t, 128> table{};
  for (char32_t code = 0; code < 128; ++code) table[code] = compute_classes(code);
  return table;
}

constexpr auto kNfc = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE);

utf8proc_propval_t combining_class(utf8proc_int32_t code) {
  return utf8proc_get_property(code)->combining_class;
}

// Sorts the marks of one run by class and keeps the order within a class. utf8proc's own sort is a bubble
// sort, quadratic in the run; std::stable_sort trips clang's deprecation warning in this standard library.
void sort_marks(std::span<utf8proc_int32_t> marks, std::vector<uint64_t>& keys) {
  if (marks.size() < 2) return;
  keys.clear();
  for (size_t i = 0; i < marks.size(); ++i)  // class, place, code: 8 + 34 + 22 bits
    keys.push_back(static_cast<uint64_t>(combining_class(marks[i])) << 56 | i << 22 |
                   static_cast<uint64_t>(marks[i]));
  std::sort(keys.begin(), keys.end());
  for (size_t i = 0; i < marks.size(); ++i) marks[i] = static_cast<utf8proc_int32_t>(keys[i] & 0x3FFFFF);
}

// Canonical decomposition, marks in canonical order.
std::vector<utf8proc_int32_t> decompose(std::string_view text) {
  std::vector<utf8proc_int32_t> out;
  out.reserve(text.size());
  std::array<utf8proc_int32_t, 64> parts;  // the longest canonical decomposition has 4
  int boundary = 0;
  for (size_t at = 0; at < text.size();) {
    const Utf8Char next = decode_utf8(text, at);
    at += next.size;
    const auto count = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(next.code), parts.data(),
                                               parts.size(), kNfc, &boundary);
    LS_CHECK(count >= 0 && count <= static_cast<utf8proc_ssize_t>(parts.size()), "utf8proc gave ", count);
    out.insert(out.end(), parts.begin(), parts.begin() + count);
  }
  std::vector<uint64_t> keys;
  const auto is_mark = [](utf8proc_int32_t code) { return combining_class(code) != 0; };
  for (auto begin = std::find_if(out.begin(), out.end(), is_mark); begin != out.end();) {
    const auto end = std::find_if_not(begin, out.end(), is_mark);
    sort_marks({begin, end}, keys);
    begin = std::find_if(end, out.end(), is_mark);
  }
  return out;
}

}  // namespace

bool is_white_space(char32_t code) {
  return (code >= 0x09 && code <= 0x0D) || code == 0x20 || code == 0x85 || code == 0xA0 || code == 0x1680 ||
         (code >= 0x2000 && code <= 0x200A) || code == 0x2028 || code == 0x2029 || code == 0x202F ||
         code == 0x205F || code == 0x3000;
}

uint8_t classes_of(char32_t code) {
  static const std::array<uint8_t, 128> kAscii = ascii_classes();
  return code < 128 ? kAscii[code] : compute_classes(code);
}

bool is_word(char32_t code) {
  if (classes_of(code) & (kLetter | kMark)) return true;
  const auto category = utf8proc_category(static_cast<utf8proc_int32_t>(code));
  if (category == UTF8PROC_CATEGORY_ND || category == UTF8PROC_CATEGORY_NL ||
      category == UTF8PROC_CATEGORY_PC)
    return true;
  // Join_Control, and the symbols that are Alphabetic: circled, squared and negative letters.
  return code == 0x200C || code == 0x200D || (code >= 0x24B6 && code <= 0x24E9) ||
         (code >= 0x1F130 && code <= 0x1F149) || (code >= 0x1F150 && code <= 0x1F169) ||
         (code >= 0x1F170 && code <= 0x1F189);
}

std::string_view normalize_nfc(std::string_view text, std::string& storage) {
  // Below U+0300 (lead byte 0xCC) everything is composed already and nothing combines.
  const bool composed =
      std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0xCC; });
  if (composed) return text;
  std::vector<utf8proc_int32_t> codes = decompose(text);
  const auto count =
      utf8proc_normalize_utf32(codes.data(), static_cast<utf8proc_ssize_t>(codes.size()), kNfc);
  LS_CHECK(count >= 0, "utf8proc gave ", count);
  storage.clear();
  for (utf8proc_ssize_t i = 0; i < count; ++i)
    append_utf8(storage, static_cast<char32_t>(codes[static_cast<size_t>(i)]));
  return storage;
}

}  // namespace lockstep
