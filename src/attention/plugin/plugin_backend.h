// A plugin as an attention backend of the house.
#pragma once

#include "attention/attention_backend.h"
#include "attention/plugin/plugin.h"

namespace lockstep {

class PluginBackend final : public AttentionBackend {
 public:
  // Borrows the storage. Errors: kUnimplemented for a cache that the plugin does not serve.
  static Result<std::unique_ptr<AttentionBackend>> create(std::shared_ptr<const Plugin> plugin,
                                                          const CacheStorage& storage);

  const ConsumerSpec& spec() const override { return plugin_->spec(); }
  int64_t workspace_bytes(int threads, int32_t heads, int32_t kv_heads, int32_t head_dim) const override;
  // Errors: as Binder; what the plugin's prepare() says; what its run() has said in an earlier step.
  Status prepare(const Binder& binder, GroupId group, PreparedStep& step) const override;
  Status run(const PreparedStep& step, GroupId group, const AttentionTensors& tensors, int32_t layer,
             const Launcher& on) const override;

 private:
  PluginBackend(std::shared_ptr<const Plugin> plugin, const CacheStorage& storage)
      : plugin_(std::move(plugin)), storage_(storage) {}

  std::shared_ptr<const Plugin> plugin_;
  const CacheStorage& storage_;
};

}  // namespace lockstep
