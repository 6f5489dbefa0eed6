#include "text/detokenizer.h"

#include <utility>

#include "json/utf8.h"

namespace lockstep {

Result<std::string> Detokenizer::push(int32_t id) {
  if (!tokenizer_.contains(id))
    return error(Code::kInvalidArgument, "detokenizer: id ", id, " names no token; expected an id in 0..",
                 tokenizer_.vocab_size() - 1);
  if (skip_special_ && tokenizer_.is_special(id)) return std::string();
  std::string_view bytes = tokenizer_.token_bytes(id);
  if (at_start_ && bytes.starts_with(' ')) bytes.remove_prefix(1);
  at_start_ = at_start_ && tokenizer_.token_bytes(id).empty();
  held_ += bytes;
  // A character that the end cuts begins at one of the last three bytes, with a lead byte.
  size_t cut = held_.size();
  for (size_t back = 1; back <= 3 && back <= held_.size(); ++back) {
    const size_t at = held_.size() - back;
    if (static_cast<unsigned char>(held_[at]) < 0xC0) continue;
    if (decode_utf8(held_, at).state == Utf8State::kTruncated) cut = at;
    break;
  }
  std::string text;
  append_lossy_utf8(text, std::string_view(held_).substr(0, cut));
  held_.erase(0, cut);
  return text;
}

std::string Detokenizer::flush() {
  std::string text;
  append_lossy_utf8(text, held_);
  held_.clear();
  at_start_ = strips_;
  return text;
}

}  // namespace lockstep
