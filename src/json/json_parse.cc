#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "json/document.h"
#include "json/utf8.h"

namespace lockstep {

// Receives nlohmann's events and lays the values out flat. A handler that returns false stops the parser;
// status_ then says why.
class JsonBuilder {
 public:
  JsonBuilder(std::string_view text, const JsonLimits& limits, std::string_view who)
      : text_(text), limits_(limits), document_(std::make_shared<JsonDocument>()) {
    document_->who = who;
  }

  // --- events, with the names and signatures nlohmann calls
  // -------------------------------------------------
  bool null() { return add(Json::Kind::kNull, {.integer = 0}); }
  bool boolean(bool value) { return add(Json::Kind::kBool, {.boolean = value}); }
  bool number_integer(int64_t value) { return add(Json::Kind::kInteger, {.integer = value}); }
  bool number_unsigned(uint64_t value) {
    if (value > static_cast<uint64_t>(Json::kHighest))
      return add(Json::Kind::kUnsigned, {.unsigned_integer = value});
    return add(Json::Kind::kInteger, {.integer = static_cast<int64_t>(value)});
  }
  bool number_float(double value, const std::string& raw) {
    if (!add(Json::Kind::kDouble, {.number = value})) return false;
    // A whole number that overflowed arrives here as a rounded double.
    const bool whole = raw.find_first_of(".eE") == std::string::npos;
    if (!whole && std::isfinite(value)) return true;
    return fail(Code::kInvalidArgument, document_->where(last()), " is ", excerpt(raw, 40),
                "; expected a whole number of 64 bits or a finite double");
  }
  bool string(std::string& value) { return add(Json::Kind::kString, {.span = keep(value)}); }
  bool binary(nlohmann::json::binary_t&) { return false; }  // JSON text has none
  bool key(std::string& value) {
    key_ = keep(value);
    return true;
  }
  bool start_object(size_t) { return open(Json::Kind::kObject); }
  bool start_array(size_t) { return open(Json::Kind::kArray); }
  bool end_object() { return close() && index_members(last_closed_); }
  bool end_array() { return close(); }
  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception& what) {
    return explain(position, what.what());
  }

  Result<Json> finish(bool parsed) && {
    if (!status_.ok()) return std::move(status_);
    if (!parsed) return error(Code::kInternal, document_->who, ": the JSON parser stopped without a reason");
    return Json(std::move(document_), 0);
  }

 private:
  struct Open {
    uint32_t node;
    size_t first_child;  // in pending_
  };

  template <typename... Parts>
  bool fail(Code code, const Parts&... parts) {
    if (status_.ok()) status_ = error(code, parts...);
    return false;
  }

  uint32_t last() const { return static_cast<uint32_t>(document_->nodes.size() - 1); }

  JsonSpan keep(std::string_view value) {
    const JsonSpan span{static_cast<uint32_t>(document_->bytes.size()), static_cast<uint32_t>(value.size())};
    document_->bytes.append(value);
    return span;
  }

  bool add(Json::Kind kind, JsonNode::Payload payload) {
    auto& nodes = document_->nodes;
    if (nodes.size() >= limits_.max_values)
      return fail(Code::kResourceExhausted, document_->who, ": the document has more than ",
                  limits_.max_values, " values; expected at most that many");
    JsonNode node{.payload = payload, .key = {}, .parent = 0, .kind = kind};
    if (!open_.empty()) {
      node.parent = open_.back().node;
      const bool member = nodes[node.parent].kind == Json::Kind::kObject;
      node.key =
          member ? key_ : JsonSpan{static_cast<uint32_t>(pending_.size() - open_.back().first_child), 0};
      pending_.push_back(static_cast<uint32_t>(nodes.size()));
    }
    nodes.push_back(node);
    return true;
  }

  bool open(Json::Kind kind) {
    if (!add(kind, {.span = {}})) return false;
    if (open_.size() >= static_cast<size_t>(std::max(limits_.max_depth, 0)))
      return fail(Code::kResourceExhausted, excerpt(document_->where(last()), 160), " is nested deeper than ",
                  limits_.max_depth, " levels; expected at most that many");
    open_.push_back({last(), pending_.size()});
    return true;
  }

  bool close() {
    const Open container = open_.back();
    open_.pop_back();
    const auto begin = pending_.begin() + static_cast<std::ptrdiff_t>(container.first_child);
    auto& children = document_->children;
    document_->nodes[container.node].payload.span = {static_cast<uint32_t>(children.size()),
                                                     static_cast<uint32_t>(pending_.end() - begin)};
    children.insert(children.end(), begin, pending_.end());
    pending_.erase(begin, pending_.end());
    last_closed_ = container.node;
    return true;
  }

  // Refuses duplicate keys; keeps the sorted list that lookups in large objects need.
  bool index_members(uint32_t object) {
    auto& children = document_->children;
    const JsonSpan span = document_->nodes[object].payload.span;
    sorted_.assign(children.begin() + span.first, children.begin() + span.first + span.count);
    const auto name = [&](uint32_t node) { return document_->text(document_->nodes[node].key); };
    std::sort(sorted_.begin(), sorted_.end(), [&](uint32_t a, uint32_t b) { return name(a) < name(b); });
    const auto twin = std::adjacent_find(sorted_.begin(), sorted_.end(),
                                         [&](uint32_t a, uint32_t b) { return name(a) == name(b); });
    if (twin != sorted_.end())
      return fail(Code::kInvalidArgument, document_->where(*twin),
                  " is given twice; expected every key of an object once");
    if (span.count > JsonDocument::kLinearMembers)
      children.insert(children.end(), sorted_.begin(), sorted_.end());
    return true;
  }

  // Turns nlohmann's "[json.exception…] parse error at line 1, column 2: syntax error while parsing value -
  // unexpected ']'; expected …" into our sentence. The bytes it quotes are dropped: they may not be UTF-8.
  bool explain(size_t position, std::string_view what) {
    const size_t at = std::min(position > 0 ? position - 1 : 0, text_.size());
    const std::string_view before = text_.substr(0, at);
    const size_t newline = before.rfind('\n');
    const size_t column = at - (newline == std::string_view::npos ? 0 : newline + 1) + 1;
    const auto line = std::count(before.begin(), before.end(), '\n') + 1;
    std::string_view reason = what.substr(std::min(what.find(" - "), what.size()));
    reason.remove_prefix(std::min<size_t>(reason.size(), 3));
    if (what.find("number overflow") != std::string_view::npos)
      reason = "a number beyond the range of doubles";
    const size_t expected = reason.rfind("; expected ");
    const std::string_view wanted =
        expected == std::string_view::npos ? "JSON text in UTF-8" : reason.substr(expected + 11);
    reason = reason.substr(0, std::min(reason.find("; last read"), expected));
    return fail(Code::kInvalidArgument, document_->who, ": line ", line, ", column ", column, " has ",
                reason.empty() ? "no JSON value" : excerpt(reason, 120), "; expected ", excerpt(wanted, 60));
  }

  std::string_view text_;
  JsonLimits limits_;
  std::shared_ptr<JsonDocument> document_;
  Status status_;
  JsonSpan key_;
  std::vector<Open> open_;
  std::vector<uint32_t> pending_;  // children of the open containers, innermost last
  std::vector<uint32_t> sorted_;   // scratch of index_members
  uint32_t last_closed_ = 0;
};

Result<Json> parse_json(std::string_view text, const JsonLimits& limits, std::string_view who) {
  // Offsets are 32 bits wide; the last one is out of reach of any sensible limit.
  const size_t max_bytes = std::min<size_t>(limits.max_bytes, UINT32_MAX - 1);
  if (text.size() > max_bytes)
    return error(Code::kResourceExhausted, who, ": the document has ", text.size(),
                 " bytes; expected at most ", max_bytes);
  if (const auto bad = find_invalid_utf8(text))
    return error(Code::kInvalidArgument, who, ": byte ", *bad, " is not UTF-8; expected JSON text in UTF-8");
  JsonLimits capped = limits;
  capped.max_values = std::min<size_t>(limits.max_values, UINT32_MAX / 2);
  try {
    JsonBuilder builder(text, capped, who);
    const bool parsed = nlohmann::json::sax_parse(text.begin(), text.end(), &builder);
    return std::move(builder).finish(parsed);
  } catch (const std::exception& failure) {
    return error(Code::kResourceExhausted, who, ": reading ", text.size(), " bytes of JSON failed with ",
                 failure.what(), "; expected enough memory");
  }
}

Result<Json> parse_json_file(const std::string& path, const JsonLimits& limits) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  const std::streamoff size = file ? static_cast<std::streamoff>(file.tellg()) : -1;
  // A folder opens too, and then claims the largest size there is.
  if (size < 0 || size == std::numeric_limits<std::streamoff>::max())
    return error(Code::kNotFound, path, ": cannot be opened; expected a readable JSON file");
  if (static_cast<uint64_t>(size) > limits.max_bytes)
    return error(Code::kResourceExhausted, path, ": the document has ", size, " bytes; expected at most ",
                 limits.max_bytes);
  std::string text(static_cast<size_t>(size), '\0');
  file.seekg(0);
  if (!file.read(text.data(), size))
    return error(Code::kNotFound, path, ": cannot be read; expected a readable JSON file");
  return parse_json(text, limits, path);
}

}  // namespace lockstep
