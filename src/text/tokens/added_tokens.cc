#include "text/tokens/added_tokens.h"

#include <algorithm>

#include "base/check.h"
#include "json/utf8.h"
#include "text/split/unicode.h"

namespace lockstep {
namespace {

bool is_continuation(char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; }

// Where the character before `at` begins. Precondition: at > 0, UTF-8.
size_t before(std::string_view text, size_t at) {
  do --at;
  while (at > 0 && is_continuation(text[at]));
  return at;
}

bool word_before(std::string_view text, size_t at) {
  return at > 0 && is_word(decode_utf8(text, before(text, at)).code);
}

bool word_behind(std::string_view text, size_t at) {
  return at < text.size() && is_word(decode_utf8(text, at).code);
}

size_t strip_left(std::string_view text, size_t at) {
  while (at > 0) {
    const size_t previous = before(text, at);
    if (!is_white_space(decode_utf8(text, previous).code)) break;
    at = previous;
  }
  return at;
}

size_t strip_right(std::string_view text, size_t at) {
  while (at < text.size()) {
    const Utf8Char next = decode_utf8(text, at);
    if (!is_white_space(next.code)) break;
    at += next.size;
  }
  return at;
}

}  // namespace

void AddedTokenMatcher::add(std::string_view pattern, const AddedToken& token) {
  LS_CHECK(!pattern.empty() && pattern.size() <= kMaxContentBytes, "pattern of ", pattern.size(), " bytes");
  may_begin_[static_cast<unsigned char>(pattern[0])] = true;
  uint32_t node = 0;
  for (const char c : pattern) {
    const uint64_t edge = static_cast<uint64_t>(node) << 8 | static_cast<unsigned char>(c);
    const auto [entry, fresh] = edges_.emplace(edge, static_cast<uint32_t>(token_of_node_.size()));
    if (fresh) token_of_node_.push_back(-1);
    node = entry->second;
  }
  if (token_of_node_[node] >= 0) return;
  token_of_node_[node] = static_cast<int64_t>(tokens_.size());
  tokens_.push_back(token);
}

AddedTokenMatcher::Found AddedTokenMatcher::longest_at(std::string_view text, size_t at) const {
  Found found;
  if (!may_begin_[static_cast<unsigned char>(text[at])]) return found;
  uint32_t node = 0;
  for (size_t i = at; i < text.size(); ++i) {
    const auto edge = edges_.find(static_cast<uint64_t>(node) << 8 | static_cast<unsigned char>(text[i]));
    if (edge == edges_.end()) break;
    node = edge->second;
    if (token_of_node_[node] >= 0) found = {i + 1, static_cast<size_t>(token_of_node_[node])};
  }
  return found;
}

std::vector<AddedTokenMatcher::Section> AddedTokenMatcher::cut(std::string_view text,
                                                               bool skip_special) const {
  std::vector<Section> sections;
  size_t done = 0;  // everything before is in a section
  for (size_t at = 0; at < text.size() && !tokens_.empty();) {
    const Found found = longest_at(text, at);
    if (found.end == 0) {
      ++at;
      continue;
    }
    size_t begin = at, end = found.end;
    at = found.end;  // a match that is turned down is not searched again, as in the crate
    const AddedToken& token = tokens_[found.token];
    if (skip_special && token.special) continue;
    if (token.single_word && (word_before(text, begin) || word_behind(text, end))) continue;
    if (token.lstrip) begin = std::max(strip_left(text, begin), done);
    if (token.rstrip) end = strip_right(text, end);
    if (begin > done) sections.push_back({-1, text.substr(done, begin - done)});
    sections.push_back({token.id, {}});
    done = end;
  }
  if (done < text.size()) sections.push_back({-1, text.substr(done)});
  return sections;
}

}  // namespace lockstep
