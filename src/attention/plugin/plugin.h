// A backend by others: a shared module behind include/lockstep/backend.h, loaded and held to what it says of
// itself. What it describes becomes a ConsumerSpec and an OpSpec per stage, so that everything which watches
// the house's own backends watches it too.
#pragma once

#include <lockstep/backend.h>

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "contract/consumer_spec.h"

namespace lockstep {

// A name as it lies in an OpArg: NUL-free, owned by the plugin.
struct PluginStage {
  std::string op;  // "naive.store"
  std::vector<OpArg> args;
  OpSpec spec;
  bool parallel = true;
};

// Why the last failing run() failed. Kernels have nowhere else to say so.
class PluginFailure {
 public:
  void set(int code, std::string message);
  // ok, or the failure; it stays.
  Status status() const;

 private:
  mutable std::mutex mutex_;
  Status status_;
};

// Lives longer than every graph that holds a launch of it. Thread: one owner, but for failure().
class Plugin {
 public:
  Plugin() = default;
  Plugin(const Plugin&) = delete;
  Plugin& operator=(const Plugin&) = delete;
  ~Plugin();

  const std::string& name() const { return name_; }
  const ConsumerSpec& spec() const { return spec_; }
  const lockstep_backend& verbs() const { return verbs_; }
  const std::vector<FieldUse>& fields() const { return uses_; }
  const std::vector<std::unique_ptr<PluginStage>>& stages() const { return stages_; }
  // Of the plugin's own part of the workspace.
  int64_t workspace_bytes(int threads, int32_t head_dim) const;
  // Errors: kUnimplemented, naming what the plugin does not serve.
  Status serves(DType cache_dtype, int32_t head_dim) const;
  PluginFailure& failure() const { return *failure_; }

 private:
  friend class PluginLoader;
  void* module_ = nullptr;
  lockstep_backend verbs_{};
  bool made_ = false;  // the module has an instance to destroy
  lockstep_description description_{};
  std::string name_;
  std::vector<std::string> arguments_;  // of uses_
  std::vector<FieldUse> uses_;
  std::vector<std::unique_ptr<PluginStage>> stages_;
  std::vector<const OpSpec*> ops_;
  ConsumerSpec spec_;
  std::unique_ptr<PluginFailure> failure_ = std::make_unique<PluginFailure>();
};

// Loads a module and asks it to describe itself.
// Errors: kNotFound when there is no such module or entry; kInvalidArgument for an ABI, a size, a verb or a
//         description that is not as include/lockstep/backend.h says, naming it; what describe() says.
Result<std::shared_ptr<const Plugin>> load_plugin(const std::string& path);
// The same for an entry that is linked in (tests).
using PluginEntry = int (*)(uint32_t abi, lockstep_backend* out);
Result<std::shared_ptr<const Plugin>> make_plugin(const std::string& label, PluginEntry entry);

// The first line of a message that others wrote, whatever it holds: at most 255 printable characters.
std::string plugin_text(const char* message);
// The code as ours; kInternal for one that is none.
Code plugin_code(int code);

}  // namespace lockstep
