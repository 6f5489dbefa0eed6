// Reading JSON that somebody else wrote: configs, tokenizers, tensor headers, requests.
//
//   const Json config = LS_TRY(parse_json(text, {}, "config.json"));
//   const int64_t layers = LS_TRY(config.integer("num_hidden_layers", 1, 4096));
//
// A value knows the file and the path it came from, so that every refusal reads as a sentence:
// "config.json: num_hidden_layers is -3; expected an integer in 1..4096".
#pragma once

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"

namespace lockstep {

// What a document may cost before it is refused.
struct JsonLimits {
  size_t max_bytes = size_t{64} << 20;  // of input
  int max_depth = 64;                   // arrays and objects inside each other
  size_t max_values = size_t{8} << 20;  // of every kind, containers included; 24 bytes each
};

struct JsonDocument;

// One immutable value of a document. Copying is cheap and keeps the document alive.
//
// Errors:  getters give kInvalidArgument with who, path, what was found and what was expected.
// Cost:    lookup O(members) up to 16 members, O(log members) above; array access O(1).
// Thread:  any number of readers.
class Json {
 public:
  enum class Kind : uint8_t { kNull, kBool, kInteger, kUnsigned, kDouble, kString, kArray, kObject };
  static constexpr int64_t kLowest = std::numeric_limits<int64_t>::min();
  static constexpr int64_t kHighest = std::numeric_limits<int64_t>::max();

  Kind kind() const;  // kUnsigned only for whole numbers above the range of int64
  bool is_null() const { return kind() == Kind::kNull; }
  bool is_bool() const { return kind() == Kind::kBool; }
  bool is_integer() const { return kind() == Kind::kInteger; }
  bool is_number() const { return is_integer() || kind() == Kind::kUnsigned || kind() == Kind::kDouble; }
  bool is_string() const { return kind() == Kind::kString; }
  bool is_array() const { return kind() == Kind::kArray; }
  bool is_object() const { return kind() == Kind::kObject; }

  // --- this value as a type; bounds are inclusive
  // -----------------------------------------------------------
  Result<int64_t> as_integer(int64_t min = kLowest, int64_t max = kHighest) const;
  Result<uint64_t> as_unsigned() const;
  Result<double> as_number(double min = -std::numeric_limits<double>::max(),
                           double max = std::numeric_limits<double>::max()) const;  // integers too
  Result<bool> as_bool() const;
  Result<std::string> as_string() const;
  Result<std::string_view> as_string_view() const;  // lives as long as any Json of the document
  Result<std::vector<int64_t>> as_integers(int64_t min = kLowest, int64_t max = kHighest) const;
  Result<std::vector<double>> as_numbers() const;
  Result<std::vector<std::string>> as_strings() const;
  Result<Json> as_object() const;  // itself, when it is one
  Result<Json> as_array() const;

  // --- members of an object that must be there
  // --------------------------------------------------------------
  Result<int64_t> integer(std::string_view key, int64_t min = kLowest, int64_t max = kHighest) const;
  Result<double> number(std::string_view key, double min = -std::numeric_limits<double>::max(),
                        double max = std::numeric_limits<double>::max()) const;
  Result<bool> boolean(std::string_view key) const;
  Result<std::string> string(std::string_view key) const;
  Result<std::vector<int64_t>> integers(std::string_view key, int64_t min = kLowest,
                                        int64_t max = kHighest) const;
  Result<std::vector<std::string>> strings(std::string_view key) const;
  Result<Json> object(std::string_view key) const;
  Result<Json> array(std::string_view key) const;
  Result<Json> value(std::string_view key) const;  // of any kind, null included

  // --- members that may be absent or null, which then read as `fallback`
  // ------------------------------------
  Result<int64_t> integer_or(std::string_view key, int64_t fallback, int64_t min = kLowest,
                             int64_t max = kHighest) const;
  Result<double> number_or(std::string_view key, double fallback,
                           double min = -std::numeric_limits<double>::max(),
                           double max = std::numeric_limits<double>::max()) const;
  Result<bool> boolean_or(std::string_view key, bool fallback) const;
  Result<std::string> string_or(std::string_view key, std::string_view fallback) const;

  // The member, or nothing when it is absent, null, or this is no object.
  std::optional<Json> find(std::string_view key) const;
  // True when the key is there, null or not.
  bool contains(std::string_view key) const;

  // --- containers
  // -------------------------------------------------------------------------------------------
  size_t size() const;              // members or items; 0 for other kinds
  Json operator[](size_t i) const;  // item or member i, in the order of the text. Precondition: i < size()
  std::string_view key() const;     // the name of this member; empty for items and the document
  class Iterator;
  Iterator begin() const;  // over items or members: for (const Json& item : config) ... item.key()
  Iterator end() const;

  // --- messages
  // ---------------------------------------------------------------------------------------------
  // "config.json: rope_scaling.type", for sentences of the caller's own.
  std::string where() const;
  // kInvalidArgument "config.json: rope_scaling.type is "foo"; expected <expectation>".
  Status refuse(std::string_view expectation) const;

 private:
  friend class JsonBuilder;
  Json(std::shared_ptr<const JsonDocument> document, uint32_t node)
      : document_(std::move(document)), node_(node) {}
  std::optional<uint32_t> lookup(std::string_view key) const;
  Result<Json> require(std::string_view key, std::string_view expectation) const;

  std::shared_ptr<const JsonDocument> document_;
  uint32_t node_ = 0;
};

// Walks items or members in the order of the text.
class Json::Iterator {
 public:
  using value_type = Json;
  using difference_type = std::ptrdiff_t;
  using iterator_category = std::input_iterator_tag;
  using pointer = void;
  using reference = Json;
  Iterator(Json container, size_t i) : container_(std::move(container)), i_(i) {}
  Json operator*() const { return container_[i_]; }
  Iterator& operator++() { return ++i_, *this; }
  bool operator==(const Iterator& other) const { return i_ == other.i_; }

 private:
  Json container_;
  size_t i_;
};

inline Json::Iterator Json::begin() const { return {*this, 0}; }
inline Json::Iterator Json::end() const { return {*this, size()}; }

// Reads one JSON document (RFC 8259; a byte order mark is skipped). `who` begins every message: a file name.
//
// Errors:  kInvalidArgument for text that is not JSON or not UTF-8, trailing text, duplicate keys, numbers
//          that fit neither 64-bit integers nor doubles; kResourceExhausted beyond `limits`.
// Cost:    O(bytes) plus a sort of the keys of objects above 16 members.
Result<Json> parse_json(std::string_view text, const JsonLimits& limits, std::string_view who);

// The same for a file; `who` is the path as given.
// Errors:  also kNotFound for a file that cannot be opened.
Result<Json> parse_json_file(const std::string& path, const JsonLimits& limits = {});

}  // namespace lockstep
