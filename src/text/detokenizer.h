// Token ids to text while they are being generated.
#pragma once

#include <cstdint>
#include <string>

#include "base/status.h"
#include "text/tokenizer.h"

namespace lockstep {

// Turns ids into text one at a time and never cuts a character: bytes that may yet become one are held back,
// three at most. All texts together equal Tokenizer::decode() of all ids, but where they go on from a text
// that others have: then a first space, which decode() may take away, stays.
//
//   Detokenizer stream(tokenizer, true);
//   out << LS_TRY(stream.push(id));   // per token; often empty
//   out << stream.flush();            // at the end
class Detokenizer {
 public:
  enum class Text : uint8_t { kBegins, kGoesOn };
  Detokenizer(Tokenizer tokenizer, bool skip_special, Text text = Text::kBegins)
      : tokenizer_(std::move(tokenizer)),
        skip_special_(skip_special),
        strips_(text == Text::kBegins && tokenizer_.strips_space()),
        at_start_(strips_) {}

  // The text that `id` completes.
  // Errors:  kInvalidArgument for an id that names no token; nothing is changed.
  Result<std::string> push(int32_t id);
  // What never completed, as U+FFFD. The stream is then as new.
  std::string flush();

 private:
  Tokenizer tokenizer_;
  bool skip_special_;
  bool strips_;       // a first space
  bool at_start_;     // and nothing has come yet
  std::string held_;  // the beginning of a character
};

}  // namespace lockstep
