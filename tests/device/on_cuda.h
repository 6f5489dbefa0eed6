// What tests on a CUDA device begin with.
#pragma once

#include <gtest/gtest.h>

#include "device/registry.h"
#include "support/engines.h"
#include "support/model_folder.h"

namespace lockstep::testing {

// Skipped where this machine has no GPU. Base: ::testing::Test, or TestWithParam.
template <typename Base>
class OnCuda : public Base {
 protected:
  void SetUp() override {
    Result<DevicePtr> opened = open_device("cuda");
    if (!opened.ok()) GTEST_SKIP() << opened.status().message();
  }
};

inline EngineConfig cuda_config(const std::string& model, ComputeDType dtype) {
  EngineConfig config = small_config(model, dtype);
  config.device = "cuda";
  return config;
}

inline std::string golden_model(std::string_view name) {
  return concat(LOCKSTEP_SOURCE_DIR, "/tests/golden/", name);
}

// `length` ids that follow from `key`.
inline std::vector<int32_t> prompt_of(int32_t length, int32_t key, int32_t vocab) {
  std::vector<int32_t> prompt(static_cast<size_t>(length));
  for (size_t i = 0; i < prompt.size(); ++i)
    prompt[i] = 1 + (key * 31 + static_cast<int32_t>(i) * 17) % (vocab - 1);
  return prompt;
}

}  // namespace lockstep::testing
