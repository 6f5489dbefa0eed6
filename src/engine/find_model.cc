#include "engine/find_model.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <vector>

namespace lockstep {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kStoryteller = "storyteller";

bool is_model(const fs::path& folder) {
  std::error_code ignored;
  return fs::exists(folder / "config.json", ignored);
}

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : "";
}

std::vector<fs::path> storyteller_places() {
  std::vector<fs::path> places;
  if (const std::string models = environment("LOCKSTEP_MODELS"); !models.empty()) {
    places.push_back(fs::path(models) / kStoryteller);
  }
  std::error_code failed;
  const fs::path binary = fs::read_symlink("/proc/self/exe", failed);
  if (!failed) {
    places.push_back(binary.parent_path() / "models" / kStoryteller);
    places.push_back(binary.parent_path() / ".." / "share" / "lockstep" / "models" / kStoryteller);
    // Built in place: <source>/build/<preset>/lockstep.
    places.push_back(binary.parent_path() / ".." / ".." / "models" / kStoryteller);
  }
  return places;
}

fs::path hub_cache() {
  if (const std::string cache = environment("HF_HUB_CACHE"); !cache.empty()) return cache;
  if (const std::string home = environment("HF_HOME"); !home.empty()) return fs::path(home) / "hub";
  return fs::path(environment("HOME")) / ".cache" / "huggingface" / "hub";
}

// models--org--name/snapshots/<the revision that refs/main names>.
Result<std::string> find_in_hub(std::string_view given) {
  std::string folder = "models--" + std::string(given);
  folder.replace(folder.find('/'), 1, "--");
  const fs::path model = hub_cache() / folder;
  std::ifstream ref(model / "refs" / "main");
  std::string revision;
  if (ref >> revision && is_model(model / "snapshots" / revision))
    return (model / "snapshots" / revision).string();
  return error(Code::kNotFound, "model: ", given, " is neither a folder nor in the cache at ",
               hub_cache().string(),
               "; expected a folder with config.json, or a model that was downloaded before");
}

}  // namespace

Result<std::string> find_model(std::string_view given) {
  if (given.empty()) {
    std::string looked;
    for (const fs::path& place : storyteller_places()) {
      if (is_model(place)) return fs::weakly_canonical(place).string();
      looked += (looked.empty() ? "" : ", ") + place.lexically_normal().string();
    }
    return error(Code::kNotFound, "model: the storyteller is not in ", looked,
                 "; set LOCKSTEP_MODELS to the folder that holds it, or give --model");
  }
  std::error_code ignored;
  if (fs::is_directory(fs::path(given), ignored)) {
    if (is_model(fs::path(given))) return std::string(given);
    return error(Code::kNotFound, "model: ", given,
                 " has no config.json; expected a folder in Hugging Face's form");
  }
  const bool like_hub =
      std::count(given.begin(), given.end(), '/') == 1 && given.front() != '/' && given.front() != '.';
  if (like_hub) return find_in_hub(given);
  return error(Code::kNotFound, "model: there is no folder ", given, "; expected one with config.json");
}

}  // namespace lockstep
