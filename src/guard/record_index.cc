#include "guard/record_index.h"

#include <charconv>
#include <cmath>
#include <set>

#include "json/json.h"
#include "json/json_writer.h"

namespace lockstep {
namespace {

constexpr size_t kMostEntries = 65536;  // of any one list
constexpr JsonLimits kIndexLimits{
    .max_bytes = size_t{64} << 20, .max_depth = 12, .max_values = size_t{4} << 20};

// Fields and groups of the plan's limits, as record.h lists those of a record.
void limits_members(auto& self, auto&& each) {
  each("max_rows", self.max_rows);
  each("max_seqs", self.max_seqs);
  each("max_logits_rows", self.max_logits_rows);
  each("max_seq_len", self.max_seq_len);
  each("max_edits", self.max_edits);
  each("max_copies", self.max_copies);
  each("vocab_size", self.vocab_size);
  each("penalty_slots", self.penalty_slots);
  each("mask_slots", self.mask_slots);
  each("dp_ranks", self.dp_ranks);
  each("cp_ranks", self.cp_ranks);
  each("num_groups", self.num_groups);
  each("groups", self.groups);
}

void group_members(auto& self, auto&& each) {
  each("kind", self.kind);
  each("sharding", self.sharding);
  each("page_tokens", self.page_tokens);
  each("kernel_page_tokens", self.kernel_page_tokens);
  each("num_pages", self.num_pages);
  each("table_rows", self.table_rows);
  each("max_pages_per_seq", self.max_pages_per_seq);
  each("layout", self.layout);
  each("dtype", self.dtype);
}

void bucket_members(auto& self, auto&& each) {
  each("rows", self.rows);
  each("seqs", self.seqs);
  each("logits_rows", self.logits_rows);
}

template <typename Self>
void members_of(Self& self, auto&& each) {
  using T = std::remove_const_t<Self>;
  if constexpr (std::is_same_v<T, StepLimits>)
    limits_members(self, each);
  else if constexpr (std::is_same_v<T, CacheGroup>)
    group_members(self, each);
  else if constexpr (std::is_same_v<T, Bucket>)
    bucket_members(self, each);
  else
    T::members(self, each);
}

std::string_view word_of(GroupKind kind) { return kind == GroupKind::kPaged ? "paged" : "state"; }
std::string_view word_of(Sharding kind) {
  return kind == Sharding::kReplicated ? "replicated" : "context_parallel";
}
template <typename Enum>
std::string_view word_of(Enum value) {
  return name_of(value);
}

template <typename T>
concept Quantified = requires(T t) {
  typename T::Rep;
  t.get();
};

std::string hex_of(Digest digest) {
  char text[17] = "0000000000000000";
  char digits[16];
  const auto end = std::to_chars(digits, digits + sizeof(digits), digest, 16).ptr;
  std::copy(digits, end, text + 16 - (end - digits));
  return text;
}

// Walks a record and writes it down.
class IndexWriter {
 public:
  RecordParts take() && { return {.index = std::move(json_).take(), .tensors = std::move(tensors_)}; }

  template <typename T>
  void operator()(std::string_view name, const T& value) {
    json_.key(name);
    const size_t length = path_.size();
    if (!path_.empty()) path_ += '/';
    path_ += name;
    write(value);
    path_.resize(length);
  }
  void digest(std::string_view name, Digest digest) { json_.member(name, hex_of(digest)); }
  void digest(std::string_view name, const std::vector<Digest>& digests) {
    json_.key(name).begin_array();
    for (const Digest each : digests) json_.value(hex_of(each));
    json_.end_array();
  }

  template <typename T>
  void write(const T& value) {
    if constexpr (std::is_enum_v<T>)
      json_.value(word_of(value));
    else if constexpr (Quantified<T>)
      json_.value(value.get());
    else if constexpr (requires { json_.value(value); })
      json_.value(value);
    else
      write_object(value);
  }
  template <typename T>
  void write(const std::vector<T>& list) {
    write_list(list.begin(), list.end());
  }
  void write(const std::array<CacheGroup, kMaxGroups>& groups) { write_list(groups.begin(), groups.end()); }
  void write(const RecordTensor& tensor) {
    if (tensor.bytes.empty()) {
      json_.value(nullptr);
      return;
    }
    std::string name = path_;
    for (int again = 2; !names_.insert(name).second; ++again) name = concat(path_, "#", again);
    json_.value(name);
    tensors_.push_back({.name = std::move(name), .values = &tensor});
  }

 private:
  template <typename T>
  void write_object(const T& value) {
    json_.begin_object();
    members_of(value, *this);
    json_.end_object();
  }
  void write_list(auto begin, auto end) {
    json_.begin_array();
    for (auto at = begin; at != end; ++at) {
      const size_t length = path_.size();
      if constexpr (requires { at->key(); }) path_ += concat('/', at->key());
      write(*at);
      path_.resize(length);
    }
    json_.end_array();
  }

  JsonWriter json_;
  std::string path_;  // of the value that is written
  std::vector<NamedTensor> tensors_;
  std::set<std::string> names_;
};

// Walks a record and fills it in from an index. The first refusal ends the work.
class IndexReader {
 public:
  IndexReader(Json object, const TensorSource& tensors) : object_(std::move(object)), tensors_(tensors) {}
  Status take() && { return std::move(status_); }

  template <typename T>
  void operator()(std::string_view name, T& value) {
    if (!status_.ok()) return;
    Result<Json> member = object_.value(name);
    status_ = member.ok() ? read(*member, value) : member.status();
  }
  void digest(std::string_view name, Digest& digest) {
    if (!status_.ok()) return;
    const Result<Json> member = object_.value(name);
    status_ = member.ok() ? read_digest(*member, digest) : member.status();
  }
  void digest(std::string_view name, std::vector<Digest>& digests) {
    if (!status_.ok()) return;
    const Result<Json> member = object_.array(name);
    status_ = member.ok() ? read_list(*member, digests,
                                      [](const Json& json, Digest& out) { return read_digest(json, out); })
                          : member.status();
  }

  template <typename T>
  Status read(const Json& json, T& value) {
    if constexpr (std::is_enum_v<T>) {
      return read_word(json, value);
    } else if constexpr (Quantified<T>) {
      typename T::Rep number = 0;
      LS_TRY(read(json, number));
      value = T(number);
      return {};
    } else if constexpr (std::is_same_v<T, bool>) {
      value = LS_TRY(json.as_bool());
      return {};
    } else if constexpr (std::is_same_v<T, uint64_t>) {
      value = LS_TRY(json.as_unsigned());
      return {};
    } else if constexpr (std::is_integral_v<T>) {
      value = static_cast<T>(
          LS_TRY(json.as_integer(std::numeric_limits<T>::min(), std::numeric_limits<T>::max())));
      return {};
    } else if constexpr (std::is_same_v<T, double>) {
      value = json.is_null() ? std::nan("") : LS_TRY(json.as_number());  // JSON has no word for infinity
      return {};
    } else {
      const Json object = LS_TRY(json.as_object());
      IndexReader inside(object, tensors_);
      members_of(value, inside);
      return std::move(inside).take();
    }
  }
  Status read(const Json& json, std::string& text) {
    text = LS_TRY(json.as_string());
    return {};
  }
  template <typename T>
  Status read(const Json& json, std::vector<T>& list) {
    const Json items = LS_TRY(json.as_array());
    return read_list(items, list, [this](const Json& item, T& out) { return read(item, out); });
  }
  Status read(const Json& json, std::array<CacheGroup, kMaxGroups>& groups) {
    if (json.size() != groups.size() || !json.is_array()) return json.refuse("a list of 8 cache groups");
    for (size_t g = 0; g < groups.size(); ++g) LS_TRY(read(json[g], groups[g]));
    return {};
  }
  Status read(const Json& json, RecordTensor& tensor) {
    if (json.is_null()) return {};
    const std::string_view name = LS_TRY(json.as_string_view());
    tensor = LS_TRY(tensors_(name));
    return {};
  }

 private:
  static Status read_digest(const Json& json, Digest& digest) {
    const std::string_view text = LS_TRY(json.as_string_view());
    const char* end = text.data() + text.size();
    const auto parsed = std::from_chars(text.data(), end, digest, 16);
    if (text.size() == 16 && parsed.ec == std::errc() && parsed.ptr == end) return {};
    return json.refuse("16 hexadecimal digits");
  }
  template <typename Enum>
  static Status read_word(const Json& json, Enum& value) {
    const std::string_view word = LS_TRY(json.as_string_view());
    std::string known;
    constexpr int kWords = std::is_same_v<Enum, GroupKind> || std::is_same_v<Enum, Sharding> ? 2 : 8;
    for (int i = 0; i < kWords; ++i) {
      const auto candidate = static_cast<Enum>(i);
      const std::string_view name = word_of(candidate);
      if (name.empty()) break;
      if (name == word) {
        value = candidate;
        return {};
      }
      known += (i > 0 ? ", " : "") + std::string(name);
    }
    return json.refuse(concat("one of ", known));
  }
  template <typename T>
  static Status read_list(const Json& items, std::vector<T>& list, auto&& read_one) {
    if (items.size() > kMostEntries) {
      return error(Code::kInvalidArgument, items.where(), " has ", items.size(),
                   " entries; expected at most ", kMostEntries);
    }
    for (const Json& item : items) {
      LS_TRY(read_one(item, list.emplace_back()));
    }
    return {};
  }

  Json object_;
  const TensorSource& tensors_;
  Status status_;
};

}  // namespace

RecordParts take_apart(const Record& record) {
  IndexWriter writer;
  writer.write(record);
  return std::move(writer).take();
}

Result<Record> put_together(std::string_view index, const TensorSource& tensors, std::string_view who) {
  const Json root = LS_TRY(parse_json(index, kIndexLimits, who));
  const int64_t version = LS_TRY(root.integer("version"));
  if (version != kRecordVersion) {
    return error(Code::kInvalidArgument, who, ": is a record of version ", version, "; expected version ",
                 kRecordVersion, "; read it with the lockstep that wrote it");
  }
  Record record;
  IndexReader reader(root, tensors);
  LS_TRY(reader.read(root, record));
  return record;
}

}  // namespace lockstep
