#include "text/tokens/characters.h"

#include <algorithm>

#include "json/utf8.h"

namespace lockstep {
namespace {

std::string byte_token(unsigned byte) {
  constexpr char kDigits[] = "0123456789ABCDEF";
  return {'<', '0', 'x', kDigits[byte / 16], kDigits[byte % 16], '>'};
}

}  // namespace

Characters::Characters(const Vocabulary& vocabulary, int32_t unknown, bool fuse)
    : unknown_(unknown), fuse_(fuse) {
  for (unsigned byte = 0; byte < 256; ++byte) bytes_[byte] = vocabulary.find(byte_token(byte)).value_or(-1);
}

bool Characters::append_bytes(std::string_view character, std::vector<int32_t>& out) const {
  const auto id_of = [this](char c) { return bytes_[static_cast<unsigned char>(c)]; };
  const bool all = std::all_of(character.begin(), character.end(), [&](char c) { return id_of(c) >= 0; });
  for (size_t i = 0; all && i < character.size(); ++i) out.push_back(id_of(character[i]));
  return all;
}

Status Characters::split(std::string_view text, const Vocabulary& vocabulary,
                         const std::vector<bool>& of_model, std::vector<int32_t>& out) const {
  out.clear();
  bool unknown_before = false;
  for (size_t at = 0; at < text.size();) {
    const std::string_view character = text.substr(at, decode_utf8(text, at).size);
    at += character.size();
    const auto id = vocabulary.find(character);
    const bool known = id && of_model[static_cast<size_t>(*id)];
    if (known) out.push_back(*id);
    if (known || append_bytes(character, out)) {
      unknown_before = false;
      continue;
    }
    if (unknown_ < 0)
      return error(Code::kInvalidArgument, "the text has ", excerpt(character, 8),
                   ", for which the vocabulary has no token; expected text that the vocabulary can spell");
    if (!unknown_before || !fuse_) out.push_back(unknown_);
    unknown_before = true;
  }
  return {};
}

}  // namespace lockstep
