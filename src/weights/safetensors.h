// The safetensors format: 8 bytes of little-endian header length, a JSON header, then the data buffer.
// A header is somebody else's text: every number in it is checked before it is used.
// Source: the format's description in the safetensors repository of Hugging Face.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "tensor/tensor.h"
#include "weights/input_file.h"

namespace lockstep {

inline constexpr int64_t kSafetensorsPrefix = 8;               // bytes of the header's length
inline constexpr int64_t kMaxSafetensorsHeader = 100'000'000;  // bytes; the format's own limit
inline constexpr std::string_view kSafetensorsMetadata = "__metadata__";

// One tensor of a file: dense, row-major, little-endian, at any alignment.
struct StoredTensor {
  std::string name{};
  DType dtype = DType::kF32;
  Shape shape{};
  int64_t offset = 0;  // of its first byte, from the beginning of the file
  int64_t bytes = 0;   // elements * size of the dtype
  int32_t shard = 0;   // which file of a checkpoint
};

struct SafetensorsHeader {
  std::vector<StoredTensor> tensors;            // in the order of their bytes; names are unique
  std::map<std::string, std::string> metadata;  // the file's own words
  int64_t data_offset = 0;                      // of the data buffer, from the beginning of the file
};

// Bytes of the JSON header of a file of `file_bytes` bytes that begins with `prefix`.
// Errors: kInvalidArgument for fewer than 8 bytes, or a length above the format's limit or the file's rest.
Result<int64_t> safetensors_header_bytes(std::span<const uint8_t> prefix, int64_t file_bytes,
                                         std::string_view who);

// Reads the JSON header of a file of `file_bytes` bytes: known dtypes, at most kMaxRank dimensions, sizes
// that fit shapes, and tensors that cover the data buffer exactly, without holes or overlaps. Errors:
// kInvalidArgument (kResourceExhausted for too many values), beginning with `who`. Cost:   O(header);
// allocates O(tensors) after the text was accepted as JSON.
Result<SafetensorsHeader> parse_safetensors_header(std::string_view header, int64_t file_bytes,
                                                   std::string_view who);

// The header of a whole file in memory.
Result<SafetensorsHeader> parse_safetensors(std::span<const uint8_t> file, std::string_view who);

// The header of a file on disk.
Result<SafetensorsHeader> read_safetensors_header(const InputFile& file);

}  // namespace lockstep
