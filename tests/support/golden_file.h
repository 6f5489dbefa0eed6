// Golden values that tools/make_goldens.py stored: a safetensors file, read by our own reader.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "weights/checkpoint.h"

namespace lockstep::testing {

inline std::string golden_folder(const std::string& name) {
  return std::string(LOCKSTEP_SOURCE_DIR "/tests/golden/") + name;
}

class GoldenFile {
 public:
  static GoldenFile open(const std::string& path) {
    Result<Checkpoint> file = Checkpoint::open(path);
    EXPECT_TRUE(file.ok()) << file.status().message();
    return GoldenFile(std::move(file).value());
  }

  Shape shape(const std::string& name) const { return file_.find(name)->shape; }
  bool contains(const std::string& name) const { return file_.contains(name); }

  template <typename T>
  std::vector<T> read(const std::string& name) const {
    const StoredTensor* tensor = file_.find(name);
    EXPECT_NE(tensor, nullptr) << name;
    std::vector<T> values(static_cast<size_t>(tensor->shape.elements()));
    EXPECT_TRUE(file_.read(*tensor, 0, tensor->bytes, values.data()).ok());
    return values;
  }
  std::vector<int32_t> token_ids(const std::string& name) const {
    const std::vector<int64_t> wide = read<int64_t>(name);
    return {wide.begin(), wide.end()};
  }

 private:
  explicit GoldenFile(Checkpoint file) : file_(std::move(file)) {}
  Checkpoint file_;
};

}  // namespace lockstep::testing
