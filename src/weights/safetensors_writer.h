// Writes safetensors files: records, test checkpoints, converted weights.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/status.h"
#include "tensor/tensor.h"

namespace lockstep {

// Collects tensors, then writes them as one file. Equal contents give equal bytes: tensors lie in the order
// of falling element size, then of their names, so that each is aligned to its element.
class SafetensorsWriter {
 public:
  void set_metadata(std::string key, std::string value) { metadata_[std::move(key)] = std::move(value); }

  // Adds a tensor whose elements lie dense and row-major in `view`; they are not copied and must stay until
  // the file is written. Errors: kInvalidArgument for a name that is taken or reserved, or gaps between rows.
  Status add(const std::string& name, const TensorView& view);

  // The prefix and the header, padded with spaces so that the data buffer begins at a multiple of 8.
  std::string header() const;

  // The whole file in memory.
  std::string bytes() const;

  // Writes the file under a temporary name beside `path`, then renames it: a reader sees all or nothing.
  // Errors: kInvalidArgument where the system refuses, with its reason.
  Status write(const std::string& path) const;

 private:
  std::vector<const std::pair<const std::string, TensorView>*> ordered() const;

  std::map<std::string, TensorView> tensors_;
  std::map<std::string, std::string> metadata_;
};

}  // namespace lockstep
