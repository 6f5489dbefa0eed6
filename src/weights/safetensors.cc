#include "weights/safetensors.h"

#include <algorithm>
#include <optional>
#include <tuple>

#include "base/math.h"
#include "json/json.h"
#include "json/utf8.h"

namespace lockstep {
namespace {

// Tensor names come from the file; a message shows at most this many bytes of one.
constexpr size_t kShownName = 120;

std::string all_dtypes() {
  std::string names;
  for (int i = 0; i <= static_cast<int>(DType::kF8E5M2); ++i) {
    names += (i > 0 ? ", " : "") + std::string(info_of(static_cast<DType>(i)).safetensors);
  }
  return names;
}

Result<std::map<std::string, std::string>> read_metadata(const Json& entry) {
  std::map<std::string, std::string> metadata;
  const Json object = LS_TRY(entry.as_object());
  for (const Json& item : object) {
    metadata.emplace(item.key(), LS_TRY(item.as_string()));
  }
  return metadata;
}

// Bytes of a dense tensor, or nothing where they do not fit into 63 bits.
std::optional<int64_t> dense_bytes(DType dtype, const Shape& shape) {
  std::optional<int64_t> bytes = size_of(dtype);
  for (int i = 0; i < shape.rank && bytes; ++i) bytes = checked_mul(*bytes, shape[i]);
  return bytes;
}

// One entry of the header; `offset` is still relative to the data buffer of `data_bytes` bytes.
Result<StoredTensor> read_entry(const Json& entry, int64_t data_bytes, std::string_view who) {
  const std::string shown = excerpt(entry.key(), kShownName);
  const std::string dtype_name = LS_TRY(entry.string("dtype"));
  const std::optional<DType> dtype = dtype_from_safetensors(dtype_name);
  if (!dtype) {
    return error(Code::kInvalidArgument, who, ": tensor ", shown, " has dtype ",
                 excerpt(dtype_name, kShownName), "; expected one of ", all_dtypes());
  }
  const std::vector<int64_t> dims = LS_TRY(entry.integers("shape", 0));
  if (dims.size() > kMaxRank) {
    return error(Code::kInvalidArgument, who, ": tensor ", shown, " has ", dims.size(),
                 " dimensions; expected at most ", kMaxRank);
  }
  const Shape shape{std::span<const int64_t>(dims)};
  const std::vector<int64_t> offsets = LS_TRY(entry.integers("data_offsets", 0));
  if (offsets.size() != 2) {
    return error(Code::kInvalidArgument, who, ": tensor ", shown, " has ", offsets.size(),
                 " data_offsets; expected 2: begin and end");
  }
  if (offsets[0] > offsets[1] || offsets[1] > data_bytes) {
    return error(Code::kInvalidArgument, who, ": tensor ", shown, " lies at bytes ", offsets[0], " to ",
                 offsets[1], " of the data; expected begin <= end <= ", data_bytes,
                 "; the file is truncated or damaged, fetch it again");
  }
  const std::optional<int64_t> bytes = dense_bytes(*dtype, shape);
  if (!bytes) {
    return error(Code::kInvalidArgument, who, ": tensor ", shown, " has shape ", shape,
                 "; expected fewer than 2^63 bytes");
  }
  if (*bytes != offsets[1] - offsets[0]) {
    return error(Code::kInvalidArgument, who, ": tensor ", shown, " has ", offsets[1] - offsets[0],
                 " bytes of data; expected ", *bytes, " for ", shape, " ", *dtype);
  }
  return StoredTensor{.name = std::string(entry.key()),
                      .dtype = *dtype,
                      .shape = shape,
                      .offset = offsets[0],
                      .bytes = *bytes};
}

// Tensors in the order of their bytes must follow one another from 0 to `data_bytes`.
Status check_cover(const std::vector<StoredTensor>& tensors, int64_t data_bytes, std::string_view who) {
  int64_t end = 0;
  const StoredTensor* before = nullptr;
  for (const StoredTensor& tensor : tensors) {
    if (tensor.offset < end) {
      return error(Code::kInvalidArgument, who, ": tensor ", excerpt(tensor.name, kShownName),
                   " begins at byte ", tensor.offset, " of the data, inside ",
                   excerpt(before->name, kShownName), "; expected ", end);
    }
    if (tensor.offset > end) break;
    end += tensor.bytes;
    before = &tensor;
  }
  if (end == data_bytes) return {};
  return error(Code::kInvalidArgument, who, ": no tensor holds byte ", end, " of the data; expected all ",
               data_bytes, " bytes to be held; the file is damaged, fetch it again");
}

}  // namespace

Result<int64_t> safetensors_header_bytes(std::span<const uint8_t> prefix, int64_t file_bytes,
                                         std::string_view who) {
  if (static_cast<int64_t>(prefix.size()) < kSafetensorsPrefix || file_bytes < kSafetensorsPrefix) {
    return error(Code::kInvalidArgument, who, ": has ",
                 std::min<int64_t>(file_bytes, static_cast<int64_t>(prefix.size())),
                 " bytes; expected at least 8 for the length of the header; fetch the file again");
  }
  uint64_t length = 0;
  for (size_t i = kSafetensorsPrefix; i-- > 0;) length = length << 8 | prefix[i];
  if (length > static_cast<uint64_t>(kMaxSafetensorsHeader)) {
    return error(Code::kInvalidArgument, who, ": the header has ", length, " bytes; expected at most ",
                 kMaxSafetensorsHeader, "; this is no safetensors file");
  }
  if (length > static_cast<uint64_t>(file_bytes - kSafetensorsPrefix)) {
    return error(Code::kInvalidArgument, who, ": the header has ", length, " bytes; expected at most the ",
                 file_bytes - kSafetensorsPrefix, " that follow; the file is truncated, fetch it again");
  }
  return static_cast<int64_t>(length);
}

Result<SafetensorsHeader> parse_safetensors_header(std::string_view header, int64_t file_bytes,
                                                   std::string_view who) {
  if (header.empty() || header.front() != '{') {
    return error(Code::kInvalidArgument, who, ": the header begins with ",
                 header.empty() ? std::string("nothing") : concat("byte ", +static_cast<uint8_t>(header[0])),
                 "; expected a JSON object; this is no safetensors file");
  }
  const JsonLimits limits{.max_bytes = static_cast<size_t>(kMaxSafetensorsHeader), .max_depth = 3};
  const Json root = LS_TRY(parse_json(header, limits, who));
  SafetensorsHeader out;
  out.data_offset = kSafetensorsPrefix + static_cast<int64_t>(header.size());
  const int64_t data_bytes = file_bytes - out.data_offset;
  for (const Json& entry : root) {
    if (entry.key() == kSafetensorsMetadata) {
      out.metadata = LS_TRY(read_metadata(entry));
    } else {
      out.tensors.push_back(LS_TRY(read_entry(entry, data_bytes, who)));
    }
  }
  // An empty tensor lies before the one that begins where it does.
  std::sort(out.tensors.begin(), out.tensors.end(), [](const StoredTensor& a, const StoredTensor& b) {
    return std::tie(a.offset, a.bytes, a.name) < std::tie(b.offset, b.bytes, b.name);
  });
  LS_TRY(check_cover(out.tensors, data_bytes, who));
  for (StoredTensor& tensor : out.tensors) tensor.offset += out.data_offset;
  return out;
}

Result<SafetensorsHeader> parse_safetensors(std::span<const uint8_t> file, std::string_view who) {
  const auto file_bytes = static_cast<int64_t>(file.size());
  const int64_t length = LS_TRY(safetensors_header_bytes(file, file_bytes, who));
  const auto header = file.subspan(kSafetensorsPrefix, static_cast<size_t>(length));
  return parse_safetensors_header({reinterpret_cast<const char*>(header.data()), header.size()}, file_bytes,
                                  who);
}

Result<SafetensorsHeader> read_safetensors_header(const InputFile& file) {
  uint8_t prefix[kSafetensorsPrefix] = {};
  const int64_t prefix_bytes = std::min(kSafetensorsPrefix, file.size());
  LS_TRY(file.read(0, prefix_bytes, prefix));
  const int64_t length =
      LS_TRY(safetensors_header_bytes({prefix, static_cast<size_t>(prefix_bytes)}, file.size(), file.path()));
  std::string header(static_cast<size_t>(length), '\0');
  LS_TRY(file.read(kSafetensorsPrefix, length, header.data()));
  return parse_safetensors_header(header, file.size(), file.path());
}

}  // namespace lockstep
