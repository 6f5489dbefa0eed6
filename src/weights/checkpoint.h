// A checkpoint: the tensors of one safetensors file, or of all shards that an index names.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "weights/input_file.h"
#include "weights/safetensors.h"

namespace lockstep {

// Thread: any number of readers.
class Checkpoint {
 public:
  // Opens `path`: a .safetensors file, a .safetensors.index.json, or a folder that holds model.safetensors or
  // model.safetensors.index.json (the single file wins). All headers are read and checked, no data.
  // Errors: kNotFound for a path or shard that is not there; kInvalidArgument for anything malformed, a
  // tensor
  //         that is not in the shard the index names, a tensor in two shards, or a shard name that is not a
  //         plain file name.
  static Result<Checkpoint> open(const std::string& path);

  // The tensor of that name, or null. O(log tensors).
  const StoredTensor* find(std::string_view name) const;
  bool contains(std::string_view name) const { return find(name) != nullptr; }

  // All tensors, by name.
  std::span<const StoredTensor> tensors() const { return tensors_; }
  int64_t total_bytes() const { return total_bytes_; }
  const std::string& path() const { return path_; }  // as given
  // The file that holds `tensor`.
  const std::string& file_of(const StoredTensor& tensor) const;
  size_t num_files() const { return files_.size(); }
  // __metadata__ of all files; on equal keys the first file's stands.
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

  // Copies `bytes` bytes of a tensor from byte `offset` of it on.
  // Errors: as InputFile::read. Precondition: offset + bytes <= tensor.bytes.
  Status read(const StoredTensor& tensor, int64_t offset, int64_t bytes, void* destination) const;

  // kInvalidArgument when a file was changed since it was opened.
  Status check_unchanged() const;

 private:
  Status add_file(InputFile file);
  Status add_shards(const std::string& index_path);
  Status finish();

  std::string path_;
  std::vector<InputFile> files_;
  std::vector<StoredTensor> tensors_;
  std::map<std::string, std::string> metadata_;
  int64_t total_bytes_ = 0;
};

}  // namespace lockstep
