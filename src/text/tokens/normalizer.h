// What is done to a text before it is cut into tokens.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "json/json.h"

namespace lockstep {

// NFC, Prepend, Replace of a literal, and sequences of them.
class Normalizer {
 public:
  // Errors: kUnimplemented for another kind, kInvalidArgument for a broken description.
  static Result<Normalizer> parse(const Json& description);

  // `text` as it is where nothing changes, else in `storage`. Nothing is put before an empty text.
  std::string_view apply(std::string_view text, std::string& storage) const;

 private:
  enum class Kind : uint8_t { kNfc, kPrepend, kReplace };
  struct Step {
    Kind kind = Kind::kNfc;
    std::string from;  // of kReplace, never empty
    std::string to;    // of kReplace and kPrepend
  };
  Status add(const Json& description);

  std::vector<Step> steps_;
};

}  // namespace lockstep
