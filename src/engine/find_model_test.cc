#include "engine/find_model.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>

#include "weights/test_support.h"

namespace lockstep {
namespace {

namespace fs = std::filesystem;

// Sets a variable of the environment until the end of the test.
class Environment {
 public:
  Environment(const char* name, const std::string& value) : name_(name) {
    const char* before = getenv(name);
    if (before != nullptr) before_ = before;
    had_ = before != nullptr;
    setenv(name, value.c_str(), 1);
  }
  ~Environment() {
    if (had_) {
      setenv(name_, before_.c_str(), 1);
    } else {
      unsetenv(name_);
    }
  }
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;

 private:
  const char* name_;
  std::string before_;
  bool had_ = false;
};

class FindModel : public ::testing::Test {
 protected:
  std::string make_model(const std::string& folder) {
    fs::create_directories(scratch_.file(folder));
    scratch_.write(folder + "/config.json", "{}");
    return scratch_.file(folder);
  }
  ScratchFolder scratch_;
};

TEST_F(FindModel, TakesAFolderAsItIs) {
  const std::string folder = make_model("mine");
  EXPECT_EQ(*find_model(folder), folder);
}

TEST_F(FindModel, RefusesAFolderWithoutAConfig) {
  fs::create_directories(scratch_.file("empty"));

  const Result<std::string> found = find_model(scratch_.file("empty"));

  ASSERT_FALSE(found.ok());
  EXPECT_EQ(found.status().code(), Code::kNotFound);
  EXPECT_EQ(found.status().message(),
            concat("model: ", scratch_.file("empty"),
                   " has no config.json; expected a folder in Hugging Face's form"));
}

TEST_F(FindModel, RefusesAPathThatIsNotThere) {
  const Result<std::string> found = find_model("/nowhere/at/all");

  ASSERT_FALSE(found.ok());
  EXPECT_EQ(found.status().message(),
            "model: there is no folder /nowhere/at/all; expected one with config.json");
}

TEST_F(FindModel, LooksIntoTheCacheForTheRevisionThatMainNames) {
  const Environment cache("HF_HUB_CACHE", scratch_.path());
  make_model("models--org--name/snapshots/old");
  const std::string current = make_model("models--org--name/snapshots/abc123");
  fs::create_directories(scratch_.file("models--org--name/refs"));
  scratch_.write("models--org--name/refs/main", "abc123");

  EXPECT_EQ(*find_model("org/name"), current);
  const Result<std::string> other = find_model("org/other");
  ASSERT_FALSE(other.ok());
  EXPECT_EQ(other.status().message(),
            concat("model: org/other is neither a folder nor in the cache at ", scratch_.path(),
                   "; expected a folder with config.json, or a model that was downloaded before"));
}

TEST_F(FindModel, FallsBackToTheHomeOfTheCache) {
  const Environment no_cache("HF_HUB_CACHE", "");
  const Environment home("HF_HOME", scratch_.path());
  const std::string current = make_model("hub/models--org--name/snapshots/1");
  fs::create_directories(scratch_.file("hub/models--org--name/refs"));
  scratch_.write("hub/models--org--name/refs/main", "1\n");

  EXPECT_EQ(*find_model("org/name"), current);
}

TEST_F(FindModel, TakesTheStorytellerFromTheFolderOfModels) {
  const std::string folder = make_model("storyteller");
  const Environment models("LOCKSTEP_MODELS", scratch_.path());

  EXPECT_EQ(*find_model(""), fs::weakly_canonical(folder).string());
}

}  // namespace
}  // namespace lockstep
