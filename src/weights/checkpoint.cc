#include "weights/checkpoint.h"

#include <sys/stat.h>

#include <algorithm>
#include <utility>

#include "json/json.h"
#include "json/utf8.h"

namespace lockstep {
namespace {

constexpr std::string_view kSingle = "model.safetensors";
constexpr std::string_view kIndex = "model.safetensors.index.json";
constexpr size_t kShown = 120;  // bytes of a foreign name in a message

bool exists(const std::string& path) {
  struct stat facts {};
  return stat(path.c_str(), &facts) == 0;
}

bool is_folder(const std::string& path) {
  struct stat facts {};
  return stat(path.c_str(), &facts) == 0 && S_ISDIR(facts.st_mode);
}

// A shard lies beside its index: a name with a slash could lead anywhere.
bool is_plain_file_name(std::string_view name) {
  return !name.empty() && name != "." && name != ".." && name.find('/') == name.npos &&
         name.find('\0') == name.npos;
}

bool by_name(const StoredTensor& a, const StoredTensor& b) { return a.name < b.name; }

}  // namespace

Result<Checkpoint> Checkpoint::open(const std::string& path) {
  Checkpoint out;
  out.path_ = path;
  std::string file = path;
  if (is_folder(path)) {
    const std::string folder = path + (path.ends_with('/') ? "" : "/");
    file = folder + std::string(exists(folder + std::string(kSingle)) ? kSingle : kIndex);
    if (!exists(file)) {
      return error(Code::kNotFound, path, ": holds no weights; expected ", kSingle, " or ", kIndex);
    }
  }
  if (file.ends_with(".json")) {
    LS_TRY(out.add_shards(file));
  } else {
    InputFile single = LS_TRY(InputFile::open(file));
    LS_TRY(out.add_file(std::move(single)));
  }
  LS_TRY(out.finish());
  return out;
}

Status Checkpoint::add_file(InputFile file) {
  SafetensorsHeader header = LS_TRY(read_safetensors_header(file));
  for (StoredTensor& tensor : header.tensors) {
    tensor.shard = static_cast<int32_t>(files_.size());
    total_bytes_ += tensor.bytes;
    tensors_.push_back(std::move(tensor));
  }
  metadata_.merge(header.metadata);
  files_.push_back(std::move(file));
  return {};
}

Status Checkpoint::add_shards(const std::string& index_path) {
  const Json index = LS_TRY(parse_json_file(index_path, {.max_depth = 8}));
  const Json weight_map = LS_TRY(index.object("weight_map"));
  std::map<std::string, std::vector<std::string>> shards;  // file name to the tensors it should hold
  for (const Json& entry : weight_map) {
    const std::string shard = LS_TRY(entry.as_string());
    if (!is_plain_file_name(shard)) return entry.refuse("the name of a file beside the index");
    shards[shard].emplace_back(entry.key());
  }
  if (shards.empty()) {
    return error(Code::kInvalidArgument, index_path,
                 ": weight_map is empty; expected tensors and their files");
  }
  const std::string folder = index_path.substr(0, index_path.rfind('/') + 1);
  for (const auto& [shard, names] : shards) {
    if (!exists(folder + shard)) {
      return error(Code::kNotFound, index_path, ": shard ", excerpt(shard, kShown),
                   " is not there; expected it beside the index, with tensor ", excerpt(names[0], kShown),
                   "; fetch the checkpoint again");
    }
    const auto first = static_cast<std::ptrdiff_t>(tensors_.size());
    InputFile file = LS_TRY(InputFile::open(folder + shard));
    LS_TRY(add_file(std::move(file)));
    std::sort(tensors_.begin() + first, tensors_.end(), by_name);
    for (const std::string& name : names) {
      if (!std::binary_search(tensors_.begin() + first, tensors_.end(), StoredTensor{.name = name},
                              by_name)) {
        return error(Code::kNotFound, index_path, ": tensor ", excerpt(name, kShown), " is not in ",
                     excerpt(shard, kShown), "; expected it there; fetch the checkpoint again");
      }
    }
  }
  return {};
}

Status Checkpoint::finish() {
  std::sort(tensors_.begin(), tensors_.end(), by_name);
  const auto same = std::adjacent_find(tensors_.begin(), tensors_.end(),
                                       [](const auto& a, const auto& b) { return a.name == b.name; });
  if (same == tensors_.end()) return {};
  return error(Code::kInvalidArgument, path_, ": tensor ", excerpt(same->name, kShown), " is in ",
               file_of(*same), " and in ", file_of(*(same + 1)), "; expected it in one file");
}

const StoredTensor* Checkpoint::find(std::string_view name) const {
  const auto at = std::lower_bound(tensors_.begin(), tensors_.end(), name,
                                   [](const StoredTensor& a, std::string_view b) { return a.name < b; });
  return at != tensors_.end() && at->name == name ? &*at : nullptr;
}

const std::string& Checkpoint::file_of(const StoredTensor& tensor) const {
  return files_[static_cast<size_t>(tensor.shard)].path();
}

Status Checkpoint::read(const StoredTensor& tensor, int64_t offset, int64_t bytes, void* destination) const {
  LS_CHECK(offset >= 0 && bytes >= 0 && offset <= tensor.bytes - bytes, tensor.name, " ", offset, "+", bytes);
  return files_[static_cast<size_t>(tensor.shard)].read(tensor.offset + offset, bytes, destination);
}

Status Checkpoint::check_unchanged() const {
  for (const InputFile& file : files_) LS_TRY(file.check_unchanged());
  return {};
}

}  // namespace lockstep
