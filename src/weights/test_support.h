// For the tests of this layer: a folder that disappears, files written in one line, random checkpoints.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/linear/packed_weight.h"
#include "weights/checkpoint.h"
#include "weights/safetensors_writer.h"

namespace lockstep {

// A fresh folder, removed with all it holds at the end of the test.
class ScratchFolder {
 public:
  ScratchFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "lockstep-XXXXXX").string();
    path_ = mkdtemp(pattern.data()) != nullptr ? pattern : "";
    EXPECT_FALSE(path_.empty()) << "no scratch folder";
  }
  ~ScratchFolder() { std::filesystem::remove_all(path_); }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;

  const std::string& path() const { return path_; }
  std::string file(std::string_view name) const { return path_ + "/" + std::string(name); }
  // Writes a file and returns its path.
  std::string write(std::string_view name, std::string_view content) const {
    std::ofstream(file(name), std::ios::binary) << content;
    return file(name);
  }

 private:
  std::string path_;
};

inline std::string content_of(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

inline std::span<const uint8_t> bytes_of(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

// A safetensors file of a header and data as they are given.
inline std::string safetensors_file(std::string_view header, std::string_view data) {
  const uint64_t length = header.size();
  std::string out(sizeof(length), '\0');
  std::memcpy(out.data(), &length, sizeof(length));
  return out.append(header).append(data);
}

// A checkpoint of random tensors whose elements a test can look up.
class RandomCheckpoint {
 public:
  explicit RandomCheckpoint(uint64_t seed) : random_(seed) {}

  template <typename T>
  void add(const std::string& name, const Shape& shape) {
    std::vector<float>& read = values_[name];
    std::vector<char>& raw = raw_[name];
    raw.resize(static_cast<size_t>(shape.elements()) * sizeof(T));
    for (int64_t i = 0; i < shape.elements(); ++i) {
      const auto value = static_cast<T>(std::uniform_real_distribution<float>(-1, 1)(random_));
      read.push_back(static_cast<float>(value));
      std::memcpy(raw.data() + static_cast<size_t>(i) * sizeof(T), &value, sizeof(T));
    }
    EXPECT_TRUE(writer_.add(name, dense_view(raw.data(), DTypeOf<T>::value, shape)).ok());
  }

  Checkpoint checkpoint() const {
    const std::string path = folder_.file("model.safetensors");
    EXPECT_TRUE(writer_.write(path).ok());
    return Checkpoint::open(path).value();
  }

  // Element [row, col] of a tensor seen as rows of `width`.
  float at(const std::string& name, int64_t row, int64_t col, int64_t width) const {
    return values_.at(name).at(static_cast<size_t>(row * width + col));
  }

  const ScratchFolder& folder() const { return folder_; }

 private:
  std::mt19937_64 random_;
  ScratchFolder folder_;
  SafetensorsWriter writer_;
  std::map<std::string, std::vector<float>> values_;
  std::map<std::string, std::vector<char>> raw_;
};

// Element [row, col] of one expert's matrix, through the layout's formula.
inline float element(const PackedWeight& weight, int64_t expert, int64_t row, int64_t col) {
  const int64_t at = expert * weight.expert_stride + packed_offset(weight, row, col);
  return with_float_type(
      weight.dtype, [&]<typename T>() { return static_cast<float>(static_cast<const T*>(weight.data)[at]); });
}

}  // namespace lockstep
