// Configs that come with the engine, for --load-format dummy: real shapes without weights.
#pragma once

#include <optional>
#include <span>
#include <string_view>

namespace lockstep {

struct BuiltinConfig {
  std::string_view name;  // "qwen3-0.6b"
  std::string_view json;  // as a config.json
};

std::span<const BuiltinConfig> builtin_configs();
const BuiltinConfig* find_builtin_config(std::string_view name);

}  // namespace lockstep
