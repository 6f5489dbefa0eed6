// The storage behind Json: flat arrays, so that a tokenizer with half a million values is three allocations.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "json/json.h"

namespace lockstep {

// A run of bytes of JsonDocument::bytes, or of entries of JsonDocument::children.
struct JsonSpan {
  uint32_t first = 0;
  uint32_t count = 0;
};

struct JsonNode {
  union Payload {
    bool boolean;
    int64_t integer;
    uint64_t unsigned_integer;
    double number;
    JsonSpan span;  // bytes of a string; children of a container
  } payload = {.integer = 0};
  JsonSpan key;         // bytes of the member's name; for an item {its index, 0}
  uint32_t parent = 0;  // the root is its own parent
  Json::Kind kind = Json::Kind::kNull;
};

struct JsonDocument {
  // Objects above this many members carry a second list of their children, sorted by key.
  static constexpr uint32_t kLinearMembers = 16;

  std::string who;
  std::string bytes;               // all keys and strings
  std::vector<JsonNode> nodes;     // in the order of the text; [0] is the root
  std::vector<uint32_t> children;  // nodes of every container, each container's in one run

  std::string_view text(JsonSpan span) const {
    return std::string_view(bytes).substr(span.first, span.count);
  }
  // "who: a.b[2].c"; "who: the document" for the root.
  std::string where(uint32_t node) const;
};

}  // namespace lockstep
