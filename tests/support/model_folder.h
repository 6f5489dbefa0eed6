// A model folder like another one but for a few files, for tests that need one fact of a model changed.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include "weights/checkpoint.h"

namespace lockstep::testing {

inline std::string storyteller_folder() { return LOCKSTEP_SOURCE_DIR "/models/storyteller"; }

// Links every file of `source`; what is written replaces the link. Removed at the end of the test.
class ModelFolder {
 public:
  explicit ModelFolder(const std::string& source) {
    std::string pattern = (std::filesystem::temp_directory_path() / "lockstep-model-XXXXXX").string();
    path_ = mkdtemp(pattern.data()) != nullptr ? pattern : "";
    EXPECT_FALSE(path_.empty()) << "no scratch folder";
    for (const auto& file : std::filesystem::directory_iterator(source))
      std::filesystem::create_symlink(file.path(), path_ / file.path().filename());
  }
  ~ModelFolder() { std::filesystem::remove_all(path_); }
  ModelFolder(const ModelFolder&) = delete;
  ModelFolder& operator=(const ModelFolder&) = delete;

  std::string path() const { return path_.string(); }

  void write(std::string_view name, std::string_view content) const {
    std::filesystem::remove(path_ / name);
    std::ofstream(path_ / name, std::ios::binary) << content;
  }
  void remove(std::string_view name) const { std::filesystem::remove(path_ / name); }

  // Makes element `at` of an f32 tensor a NaN.
  void poison(std::string_view tensor, int64_t at) const {
    const StoredTensor* stored = nullptr;
    const Checkpoint checkpoint = Checkpoint::open(path()).value();
    stored = checkpoint.find(tensor);
    ASSERT_NE(stored, nullptr) << tensor;
    ASSERT_EQ(stored->dtype, DType::kF32);
    const std::filesystem::path file = path_ / "model.safetensors";
    const std::filesystem::path original = std::filesystem::read_symlink(file);
    std::filesystem::remove(file);
    std::filesystem::copy_file(original, file);
    std::filesystem::permissions(file, std::filesystem::perms::owner_write,
                                 std::filesystem::perm_options::add);
    const float nan = std::nanf("");
    std::fstream out(file, std::ios::in | std::ios::out | std::ios::binary);
    out.seekp(stored->offset + at * 4);
    out.write(reinterpret_cast<const char*>(&nan), sizeof(nan));
    ASSERT_TRUE(out.good());
  }

 private:
  std::filesystem::path path_;
};

}  // namespace lockstep::testing
