#include "model/decoder_spec.h"

#include <gtest/gtest.h>

#include "model/builtin_configs.h"
#include "model/families/families.h"

namespace lockstep {
namespace {

// Added up by hand from the shapes of the published checkpoints.
TEST(DecoderSpec, CountsTheParametersOfTheBuiltInConfigs) {
  struct Size {
    const char* name;
    int64_t parameters;
    int64_t active;
  };
  for (const Size& size : {Size{"qwen3-0.6b", 596'049'920, 596'049'920},
                           {"qwen3-8b", 8'190'735'360, 8'190'735'360 - 151936 * 4096ll},
                           {"qwen3-30b-a3b", 30'532'122'624, 3'041'867'776},
                           {"qwen3-next-cut-cpu", 3'462'902'976, 1'113'306'304},
                           {"qwen3-next-cut-gpu", 40'148'361'600, 1'937'465'728},
                           {"tiny-next-2048", 52'632'048, 31'660'528},
                           {"llama-3.1-8b", 8'030'261'248, 8'030'261'248 - 128256 * 4096ll},
                           {"qwen3.5-9b", 8'953'803'264, 8'953'803'264 - 248320 * 4096ll},
                           {"qwen3.5-35b-a3b", 34'660'610'688, 2'946'429'568},
                           {"minimax-m2", 228'689'764'864, 10'415'956'480},
                           {"tiny-minimax-m2", 28'361'280, 18'399'808},
                           {"tiny-qwen3.5", 52'611'040, 52'611'040},
                           {"tiny-qwen3-moe", 5'773'056, 5'052'160},
                           {"tiny-qwen3.5-moe", 8'634'544, 7'323'824}}) {
    const BuiltinConfig* config = find_builtin_config(size.name);
    ASSERT_NE(config, nullptr) << size.name;
    const Result<DecoderSpec> spec = read_decoder_spec(parse_json(config->json, {}, size.name).value());
    ASSERT_TRUE(spec.ok()) << spec.status().message();
    EXPECT_EQ(spec->parameters(), size.parameters) << size.name;
    EXPECT_EQ(spec->active_parameters(), size.active) << size.name;
  }
  EXPECT_EQ(builtin_configs().size(), 16u);
  EXPECT_EQ(find_builtin_config("qwen3"), nullptr);
}

}  // namespace
}  // namespace lockstep
