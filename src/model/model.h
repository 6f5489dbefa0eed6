// Model: a decoder's spec and weights in memory, from a folder or made up.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kernels/linear/linear.h"
#include "model/decoder_spec.h"
#include "model/shard.h"
#include "model/weights.h"

namespace lockstep {

enum class LoadFormat : uint8_t { kSafetensors, kDummy };

// How numbers are held and multiplied.
enum class ComputeDType : uint8_t { kAuto, kFloat32, kBFloat16, kFloat16 };

struct ModelOptions {
  std::string
      path;  // a folder with config.json and safetensors; for dummies also the name of a built-in config
  LoadFormat format = LoadFormat::kSafetensors;
  ComputeDType dtype = ComputeDType::kAuto;  // auto: as the checkpoint says
  uint64_t seed = 0;                         // of dummy weights
  bool dense_as_sparse =
      false;  // rows of sparse layers choose their keys whatever the length of their prompt
  int threads = 1;
  ShardSpec shard;   // what is loaded of the model
  DevicePtr device;  // whose memory holds the weights; null: the CPU's
};

// What generation_config.json recommends; plain draws where it says nothing.
struct SamplingDefaults {
  float temperature = 1.0f;  // 0: greedy
  int32_t top_k = 0;
  float top_p = 1.0f;
  float min_p = 0.0f;
  float repetition_penalty = 1.0f;
};

// Weights do not move: whoever borrows them may keep references as long as the model lives.
struct Model {
  std::string name;                       // last component of the path
  DecoderSpec spec;                       // of the whole model
  DecoderSpec local;                      // of what this rank computes: the weights and caches that it has
  DType weight_dtype = DType::kBF16;      // of matrices in memory
  MatmulInput input = MatmulInput::kF32;  // how activations enter products
  DType cache_dtype = DType::kF32;        // of keys and values
  DecoderWeights weights;
  std::optional<LoadedWeights> loaded;  // owns their memory; empty until they are read
  std::vector<WeightBytes> parts;       // bytes by part, for `inspect`
  SamplingDefaults sampling;
  std::vector<int32_t> stop_ids;  // eos_token_id of generation_config.json, else of config.json
};

// What a model is before its weights are read: for `inspect` and for sizing memory.
struct ModelPlan {
  Model model;  // without weights
  WeightPlan weights;
  std::optional<Checkpoint> checkpoint;  // none for dummies
};

// Reads config and headers, checks every tensor. Errors: kNotFound, kInvalidArgument, kUnimplemented as
// config and checkpoint readers and shard() say.
Result<std::unique_ptr<ModelPlan>> plan_model(const ModelOptions& options);

// Reads the weights. Errors: as load_weights.
Result<std::unique_ptr<Model>> load_model(const ModelOptions& options);

}  // namespace lockstep
