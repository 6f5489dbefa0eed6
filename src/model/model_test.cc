#include "model/model.h"

#include <gtest/gtest.h>

#include "model/families/families.h"
#include "weights/test_support.h"

namespace lockstep {
namespace {

constexpr std::string_view kConfig = R"({"model_type": "qwen3_moe", "hidden_size": 8, "intermediate_size": 12,
  "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4, "vocab_size": 20,
  "max_position_embeddings": 64, "rms_norm_eps": 1e-6, "num_experts": 3, "num_experts_per_tok": 2,
  "moe_intermediate_size": 4)";

// A checkpoint folder whose matrices have the types that `type_of` gives their names.
class Folder {
 public:
  explicit Folder(const std::string& config_end = "}") : checkpoint_(1) {
    checkpoint_.folder().write("config.json", std::string(kConfig) + config_end);
  }

  template <typename TypeOf>
  void write(bool packed_experts, const TypeOf& type_of) {
    const Json config = parse_json_file(path() + "/config.json").value();
    const DecoderSpec spec = read_decoder_spec(config).value();
    DecoderWeights weights;
    const WeightPlan plan = list_weights(spec, DType::kF32, weights);
    for (const TensorTarget& tensor : plan.tensors) checkpoint_.add<float>(tensor.name, tensor.shape);
    for (const MatrixTarget& matrix : plan.matrices) {
      const bool packed = packed_experts && !matrix.otherwise.empty();
      for (const WeightPart& part : packed ? matrix.otherwise : matrix.parts) {
        for (int64_t expert = 0; expert < (packed ? 1 : matrix.experts); ++expert) {
          std::string name = part.name;
          if (const size_t hole = name.find("{}"); hole != name.npos)
            name.replace(hole, 2, std::to_string(expert));
          const Shape shape =
              packed ? Shape{matrix.experts, part.rows, matrix.k} : Shape{part.rows, matrix.k};
          with_float_type(type_of(name), [&]<typename T>() { checkpoint_.add<T>(name, shape); });
        }
      }
    }
    (void)checkpoint_.checkpoint();
  }

  const std::string& path() const { return checkpoint_.folder().path(); }
  const ScratchFolder& folder() const { return checkpoint_.folder(); }

 private:
  RandomCheckpoint checkpoint_;
};

std::unique_ptr<ModelPlan> plan_of(const std::string& path, ComputeDType dtype = ComputeDType::kAuto) {
  Result<std::unique_ptr<ModelPlan>> plan = plan_model({.path = path, .dtype = dtype});
  EXPECT_TRUE(plan.ok()) << plan.status().message();
  return plan.ok() ? std::move(plan).value() : nullptr;
}

auto all(DType dtype) {
  return [dtype](const std::string&) { return dtype; };
}
auto all_but(DType dtype, const std::string& name, DType other) {
  return [=](const std::string& given) { return given == name ? other : dtype; };
}

TEST(Model, HoldsMatricesInTheNarrowestTypeThatIsExact) {
  const std::string second = "model.layers.0.mlp.experts.1.up_proj.weight";
  const std::string packed = "model.layers.0.mlp.experts.down_proj";
  struct Case {
    const char* title;
    bool packed_experts;
    std::function<DType(const std::string&)> type_of;
    DType expected;
  };
  for (const Case& c :
       {Case{"all bf16", false, all(DType::kBF16), DType::kBF16},
        Case{"all f16", false, all(DType::kF16), DType::kF16},
        Case{"all f32", false, all(DType::kF32), DType::kF32},
        Case{"all bf16, packed", true, all(DType::kBF16), DType::kBF16},
        Case{"an f16 head", false, all_but(DType::kBF16, "lm_head.weight", DType::kF16), DType::kF32},
        Case{"an f32 second expert", false, all_but(DType::kBF16, second, DType::kF32), DType::kF32},
        Case{"f16 packed experts", true, all_but(DType::kBF16, packed, DType::kF16), DType::kF32}}) {
    Folder folder;
    folder.write(c.packed_experts, c.type_of);

    const auto plan = plan_of(folder.path(), ComputeDType::kFloat32);

    ASSERT_NE(plan, nullptr) << c.title;
    EXPECT_EQ(plan->model.weight_dtype, c.expected) << c.title;
    EXPECT_EQ(plan->model.cache_dtype, DType::kF32) << c.title;
    EXPECT_EQ(plan->model.input, MatmulInput::kF32) << c.title;
    for (const MatrixTarget& matrix : plan->weights.matrices)
      EXPECT_EQ(matrix.dtype, c.expected) << matrix.name;
  }
}

TEST(Model, ComputesInTheTypeThatTheConfigOrTheCallerNames) {
  Folder folder(R"(, "torch_dtype": "bfloat16"})");
  folder.write(false, all(DType::kF32));

  const auto configured = plan_of(folder.path());
  const auto chosen = plan_of(folder.path(), ComputeDType::kFloat16);

  EXPECT_EQ(configured->model.weight_dtype, DType::kBF16);
  EXPECT_EQ(configured->model.cache_dtype, DType::kBF16);
  EXPECT_EQ(configured->model.input, MatmulInput::kBF16);
  EXPECT_EQ(chosen->model.weight_dtype, DType::kF16);
  EXPECT_EQ(chosen->model.cache_dtype, DType::kF16);
  EXPECT_EQ(chosen->model.input, MatmulInput::kF32);
}

TEST(Model, RefusesADTypeThatItCannotComputeIn) {
  Folder folder(R"(, "dtype": "float8"})");
  folder.write(false, all(DType::kF32));

  const auto refused = plan_model({.path = folder.path()});

  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.status().code(), Code::kUnimplemented);
  EXPECT_EQ(refused.status().message(),
            folder.path() +
                "/config.json: dtype is \"float8\"; expected bfloat16, float16 or float32; choose with "
                "--dtype");
}

TEST(Model, TakesStopIdsAndSamplingFromTheGenerationConfig) {
  Folder folder(R"(, "eos_token_id": 7})");
  folder.write(false, all(DType::kF32));
  const auto plain = plan_of(folder.path());
  EXPECT_EQ(plain->model.stop_ids, std::vector<int32_t>{7});
  EXPECT_EQ(plain->model.sampling.temperature, 1.0f);

  folder.folder().write(
      "generation_config.json",
      R"({"eos_token_id": [3, 5], "temperature": 0.5, "top_k": 20, "top_p": 0.75, "min_p": 0.25,
                            "repetition_penalty": 1.5})");
  const auto advised = plan_of(folder.path());
  EXPECT_EQ(advised->model.stop_ids, (std::vector<int32_t>{3, 5}));
  EXPECT_EQ(advised->model.sampling.temperature, 0.5f);
  EXPECT_EQ(advised->model.sampling.top_k, 20);
  EXPECT_EQ(advised->model.sampling.top_p, 0.75f);
  EXPECT_EQ(advised->model.sampling.min_p, 0.25f);
  EXPECT_EQ(advised->model.sampling.repetition_penalty, 1.5f);

  folder.folder().write("generation_config.json", R"({"do_sample": false, "temperature": 0.5})");
  const auto greedy = plan_of(folder.path());
  EXPECT_EQ(greedy->model.sampling.temperature, 0.0f);
  EXPECT_EQ(greedy->model.stop_ids, std::vector<int32_t>{7});
}

TEST(Model, RefusesAStopIdThatNoTokenHas) {
  Folder folder(R"(, "eos_token_id": [7, 20]})");
  folder.write(false, all(DType::kF32));

  const auto refused = plan_model({.path = folder.path()});

  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.status().message(),
            folder.path() + "/config.json: eos_token_id[1] is 20; expected an integer in 0..19");
}

TEST(Model, SaysWhatToGiveWhenThereIsNoFolder) {
  const auto refused = plan_model({.path = "/nowhere/model"});

  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.status().code(), Code::kNotFound);
  EXPECT_EQ(
      refused.status().message(),
      "model: /nowhere/model is not a folder; expected one with config.json and safetensors files, or with "
      "--load-format dummy one of qwen3-0.6b, qwen3-8b, qwen3-30b-a3b, qwen3-next-cut-cpu, "
      "qwen3-next-cut-gpu, tiny-next-2048, llama-3.1-8b, qwen3.5-9b, qwen3.5-35b-a3b, minicpm-sala, "
      "tiny-sala, minimax-m2, tiny-minimax-m2, tiny-qwen3.5, tiny-qwen3-moe, tiny-qwen3.5-moe");
}

TEST(Model, LoadsWeightsThatStayWhereTheyAre) {
  Folder folder;
  folder.write(false, all(DType::kBF16));

  const Result<std::unique_ptr<Model>> model = load_model({.path = folder.path()});

  ASSERT_TRUE(model.ok()) << model.status().message();
  const DecoderWeights& weights = (*model)->weights;
  ASSERT_EQ(weights.layers.size(), 1u);
  EXPECT_TRUE((*model)->loaded->arena.contains(weights.embedding.data));
  EXPECT_TRUE((*model)->loaded->arena.contains(weights.layers[0].moe.experts.down.data));
  EXPECT_EQ(weights.layers[0].input_norm.shape, Shape({8}));
}

}  // namespace
}  // namespace lockstep
