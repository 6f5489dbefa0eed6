#include "json/json.h"

#include <algorithm>
#include <type_traits>

#include "base/check.h"
#include "json/document.h"
#include "json/utf8.h"

namespace lockstep {
namespace {

// "an integer in 1..8", "an integer of at least 1", "an integer of at most 8", "an integer".
template <typename T>
std::string in_range(std::string_view noun, T min, T max) {
  const bool low = min > std::numeric_limits<T>::lowest();
  const bool high = max < std::numeric_limits<T>::max();
  if (low && high) return concat(noun, " in ", min, "..", max);
  if (low) return concat(noun, " of at least ", min);
  if (high) return concat(noun, " of at most ", max);
  return std::string(noun);
}

// What stands there, in a few words.
std::string describe(const JsonDocument& document, const JsonNode& node) {
  switch (node.kind) {
    case Json::Kind::kNull: return "null";
    case Json::Kind::kBool: return node.payload.boolean ? "true" : "false";
    case Json::Kind::kInteger: return concat(node.payload.integer);
    case Json::Kind::kUnsigned: return concat(node.payload.unsigned_integer);
    case Json::Kind::kDouble: return concat(node.payload.number);
    case Json::Kind::kString: return concat('"', excerpt(document.text(node.payload.span), 60), '"');
    case Json::Kind::kArray: return concat("an array of ", node.payload.span.count);
    case Json::Kind::kObject: return "an object";
  }
  return "unknown";
}

}  // namespace

std::string JsonDocument::where(uint32_t node) const {
  if (node == 0) return who + ": the document";
  std::vector<std::string> parts;
  for (uint32_t at = node; at != 0; at = nodes[at].parent) {
    const bool member = nodes[nodes[at].parent].kind == Json::Kind::kObject;
    parts.push_back(member ? excerpt(text(nodes[at].key), 64) : concat('[', nodes[at].key.first, ']'));
    if (member && nodes[at].parent != 0) parts.back().insert(0, 1, '.');
  }
  std::string path;
  for (auto part = parts.rbegin(); part != parts.rend(); ++part) path += *part;
  return who + ": " + path;
}

Json::Kind Json::kind() const { return document_->nodes[node_].kind; }

std::string Json::where() const { return document_->where(node_); }

Status Json::refuse(std::string_view expectation) const {
  return error(Code::kInvalidArgument, where(), " is ", describe(*document_, document_->nodes[node_]),
               "; expected ", expectation);
}

// --- this value as a type
// -----------------------------------------------------------------------------------

Result<int64_t> Json::as_integer(int64_t min, int64_t max) const {
  const int64_t value = document_->nodes[node_].payload.integer;
  if (!is_integer() || value < min || value > max) return refuse(in_range("an integer", min, max));
  return value;
}

Result<uint64_t> Json::as_unsigned() const {
  const JsonNode& node = document_->nodes[node_];
  if (node.kind == Kind::kUnsigned) return node.payload.unsigned_integer;
  if (node.kind == Kind::kInteger && node.payload.integer >= 0)
    return static_cast<uint64_t>(node.payload.integer);
  return refuse("an unsigned integer");
}

Result<double> Json::as_number(double min, double max) const {
  const JsonNode& node = document_->nodes[node_];
  double value = node.payload.number;
  if (node.kind == Kind::kInteger) value = static_cast<double>(node.payload.integer);
  if (node.kind == Kind::kUnsigned) value = static_cast<double>(node.payload.unsigned_integer);
  if (!is_number() || value < min || value > max) return refuse(in_range("a number", min, max));
  return value;
}

Result<bool> Json::as_bool() const {
  if (!is_bool()) return refuse("true or false");
  return document_->nodes[node_].payload.boolean;
}

Result<std::string_view> Json::as_string_view() const {
  if (!is_string()) return refuse("a string");
  return document_->text(document_->nodes[node_].payload.span);
}

Result<std::string> Json::as_string() const { return std::string(LS_TRY(as_string_view())); }

Result<Json> Json::as_object() const {
  if (!is_object()) return refuse("an object");
  return *this;
}

Result<Json> Json::as_array() const {
  if (!is_array()) return refuse("an array");
  return *this;
}

namespace {
// Reads every item of an array with `read`.
template <typename T, typename Read>
Result<std::vector<T>> read_items(const Json& array, std::string_view expectation, Read read) {
  if (!array.is_array()) return array.refuse(expectation);
  std::vector<T> out;
  out.reserve(array.size());
  for (const Json& item : array) out.push_back(LS_TRY(read(item)));
  return out;
}
}  // namespace

Result<std::vector<int64_t>> Json::as_integers(int64_t min, int64_t max) const {
  return read_items<int64_t>(*this, "an array of integers",
                             [&](const Json& item) { return item.as_integer(min, max); });
}

Result<std::vector<double>> Json::as_numbers() const {
  return read_items<double>(*this, "an array of numbers", [](const Json& item) { return item.as_number(); });
}

Result<std::vector<std::string>> Json::as_strings() const {
  return read_items<std::string>(*this, "an array of strings",
                                 [](const Json& item) { return item.as_string(); });
}

// --- members
// ------------------------------------------------------------------------------------------------

std::optional<uint32_t> Json::lookup(std::string_view key) const {
  if (!is_object()) return std::nullopt;
  const JsonSpan span = document_->nodes[node_].payload.span;
  const uint32_t* first = document_->children.data() + span.first;
  const auto name = [&](uint32_t node) { return document_->text(document_->nodes[node].key); };
  if (span.count <= JsonDocument::kLinearMembers) {
    const auto* found =
        std::find_if(first, first + span.count, [&](uint32_t node) { return name(node) == key; });
    return found == first + span.count ? std::nullopt : std::optional(*found);
  }
  const uint32_t* sorted = first + span.count;
  const auto* found = std::lower_bound(sorted, sorted + span.count, key,
                                       [&](uint32_t node, std::string_view k) { return name(node) < k; });
  if (found == sorted + span.count || name(*found) != key) return std::nullopt;
  return *found;
}

std::optional<Json> Json::find(std::string_view key) const {
  const auto node = lookup(key);
  if (!node || document_->nodes[*node].kind == Kind::kNull) return std::nullopt;
  return Json(document_, *node);
}

bool Json::contains(std::string_view key) const { return lookup(key).has_value(); }

Result<Json> Json::require(std::string_view key, std::string_view expectation) const {
  if (!is_object()) return refuse("an object");
  if (const auto node = lookup(key)) return Json(document_, *node);
  const std::string at = node_ == 0 ? concat(document_->who, ": ") : where() + ".";
  return error(Code::kInvalidArgument, at, key, " is missing; expected ", expectation);
}

Result<Json> Json::value(std::string_view key) const { return require(key, "a value"); }

Result<int64_t> Json::integer(std::string_view key, int64_t min, int64_t max) const {
  const Json member = LS_TRY(require(key, in_range("an integer", min, max)));
  return member.as_integer(min, max);
}

Result<double> Json::number(std::string_view key, double min, double max) const {
  const Json member = LS_TRY(require(key, in_range("a number", min, max)));
  return member.as_number(min, max);
}

Result<bool> Json::boolean(std::string_view key) const {
  const Json member = LS_TRY(require(key, "true or false"));
  return member.as_bool();
}

Result<std::string> Json::string(std::string_view key) const {
  const Json member = LS_TRY(require(key, "a string"));
  return member.as_string();
}

Result<std::vector<int64_t>> Json::integers(std::string_view key, int64_t min, int64_t max) const {
  const Json member = LS_TRY(require(key, "an array of integers"));
  return member.as_integers(min, max);
}

Result<std::vector<std::string>> Json::strings(std::string_view key) const {
  const Json member = LS_TRY(require(key, "an array of strings"));
  return member.as_strings();
}

Result<Json> Json::object(std::string_view key) const {
  const Json member = LS_TRY(require(key, "an object"));
  return member.as_object();
}

Result<Json> Json::array(std::string_view key) const {
  const Json member = LS_TRY(require(key, "an array"));
  return member.as_array();
}

Result<int64_t> Json::integer_or(std::string_view key, int64_t fallback, int64_t min, int64_t max) const {
  const auto member = find(key);
  return member ? member->as_integer(min, max) : Result<int64_t>(fallback);
}

Result<double> Json::number_or(std::string_view key, double fallback, double min, double max) const {
  const auto member = find(key);
  return member ? member->as_number(min, max) : Result<double>(fallback);
}

Result<bool> Json::boolean_or(std::string_view key, bool fallback) const {
  const auto member = find(key);
  return member ? member->as_bool() : Result<bool>(fallback);
}

Result<std::string> Json::string_or(std::string_view key, std::string_view fallback) const {
  const auto member = find(key);
  return member ? member->as_string() : Result<std::string>(std::string(fallback));
}

// --- containers
// ---------------------------------------------------------------------------------------------

size_t Json::size() const {
  return is_array() || is_object() ? document_->nodes[node_].payload.span.count : 0;
}

Json Json::operator[](size_t i) const {
  LS_CHECK(i < size(), where(), " has ", size(), " entries, asked for ", i);
  return {document_, document_->children[document_->nodes[node_].payload.span.first + i]};
}

std::string_view Json::key() const {
  const JsonNode& node = document_->nodes[node_];
  const bool member = node_ != 0 && document_->nodes[node.parent].kind == Kind::kObject;
  return member ? document_->text(node.key) : std::string_view();
}

}  // namespace lockstep
