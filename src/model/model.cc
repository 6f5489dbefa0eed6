#include "model/model.h"

#include <filesystem>

#include "json/json.h"
#include "model/builtin_configs.h"
#include "model/families/families.h"

namespace lockstep {
namespace {

namespace fs = std::filesystem;

Result<Json> read_config(const ModelOptions& options) {
  if (options.format == LoadFormat::kDummy) {
    if (const BuiltinConfig* builtin = find_builtin_config(options.path)) {
      return parse_json(builtin->json, {}, concat(builtin->name, " config"));
    }
  }
  std::error_code ignored;
  if (!fs::is_directory(options.path, ignored)) {
    std::string known;
    for (const BuiltinConfig& config : builtin_configs())
      known += concat(known.empty() ? "" : ", ", config.name);
    return error(
        Code::kNotFound, "model: ", options.path,
        " is not a folder; expected one with config.json and safetensors files, or with --load-format dummy ",
        "one of ", known);
  }
  return parse_json_file((fs::path(options.path) / "config.json").string());
}

// eos_token_id is a number or a list of them.
Result<std::vector<int32_t>> read_stop_ids(const Json& config, int32_t vocab) {
  std::vector<int32_t> ids;
  const std::optional<Json> eos = config.find("eos_token_id");
  if (!eos) return ids;
  if (!eos->is_array()) {
    ids.push_back(static_cast<int32_t>(LS_TRY(eos->as_integer(0, vocab - 1))));
    return ids;
  }
  for (const int64_t id : LS_TRY(eos->as_integers(0, vocab - 1))) ids.push_back(static_cast<int32_t>(id));
  return ids;
}

Result<SamplingDefaults> read_sampling(const Json& generation) {
  SamplingDefaults defaults;
  const bool draws = LS_TRY(generation.boolean_or("do_sample", true));
  const double temperature = LS_TRY(generation.number_or("temperature", 1.0, 0.0, 100.0));
  defaults.temperature = draws ? static_cast<float>(temperature) : 0.0f;
  defaults.top_k = static_cast<int32_t>(LS_TRY(generation.integer_or("top_k", 0, 0, 1 << 24)));
  defaults.top_p = static_cast<float>(LS_TRY(generation.number_or("top_p", 1.0, 1e-6, 1.0)));
  defaults.min_p = static_cast<float>(LS_TRY(generation.number_or("min_p", 0.0, 0.0, 1.0)));
  defaults.repetition_penalty =
      static_cast<float>(LS_TRY(generation.number_or("repetition_penalty", 1.0, 1e-3, 1e3)));
  return defaults;
}

// Stop ids come from generation_config.json where it has any: config.json names only one of several.
Status read_generation(const ModelOptions& options, const Json& config, Model& model) {
  const Json named = config.find("eos_token_id") ? config : text_config(config);
  model.stop_ids = LS_TRY(read_stop_ids(named, model.spec.vocab));
  const fs::path path = fs::path(options.path) / "generation_config.json";
  std::error_code ignored;
  if (!fs::exists(path, ignored)) return {};
  const Json generation = LS_TRY(parse_json_file(path.string()));
  model.sampling = LS_TRY(read_sampling(generation));
  std::vector<int32_t> ids = LS_TRY(read_stop_ids(generation, model.spec.vocab));
  if (!ids.empty()) model.stop_ids = std::move(ids);
  return {};
}

Result<ComputeDType> configured_dtype(const Json& whole) {
  // Transformers 5 writes dtype, older versions torch_dtype; models of several parts, in any of them.
  const bool outside = whole.find("dtype") || whole.find("torch_dtype");
  const Json config = outside ? whole : text_config(whole);
  const std::string_view key = config.find("dtype") ? "dtype" : "torch_dtype";
  const std::string name = LS_TRY(config.string_or(key, "float32"));
  if (name == "bfloat16") return ComputeDType::kBFloat16;
  if (name == "float16") return ComputeDType::kFloat16;
  if (name == "float32") return ComputeDType::kFloat32;
  return error(Code::kUnimplemented, config.find(key)->where(), " is \"", name,
               "\"; expected bfloat16, float16 or float32; choose with --dtype");
}

// The narrowest type that holds every matrix of the checkpoint exactly. Products in f32 read bf16 or f16
// weights without loss, so float32 need not mean four bytes per weight.
DType exact_dtype(const WeightPlan& plan, const std::optional<Checkpoint>& checkpoint,
                  ComputeDType configured) {
  if (!checkpoint) return configured == ComputeDType::kFloat32 ? DType::kF32 : DType::kBF16;
  return exact_dtype_of(plan, *checkpoint).value_or(DType::kF32);
}

void choose_dtypes(ComputeDType dtype, DType exact, Model& model) {
  switch (dtype) {
    case ComputeDType::kBFloat16:
      model.weight_dtype = model.cache_dtype = DType::kBF16;
      model.input = MatmulInput::kBF16;
      return;
    case ComputeDType::kFloat16:
      model.weight_dtype = model.cache_dtype = DType::kF16;
      model.input = MatmulInput::kF32;
      return;
    case ComputeDType::kFloat32:
    case ComputeDType::kAuto:
      model.weight_dtype = exact;
      model.cache_dtype = DType::kF32;
      model.input = MatmulInput::kF32;
      return;
  }
}

Status set_sparse_mode(const ModelOptions& options, DecoderSpec& spec) {
  if (!options.dense_as_sparse) return {};
  if (!spec.softmax.sparse) {
    return error(
        Code::kInvalidArgument, "--dense-as-sparse is given for ", spec.family,
        ", whose layers all attend to every key; expected a model of block-sparse attention; leave the ",
        "flag away");
  }
  spec.softmax.sparse->dense_len = 0;
  return {};
}

}  // namespace

Result<std::unique_ptr<ModelPlan>> plan_model(const ModelOptions& options) {
  const Json config = LS_TRY(read_config(options));
  auto plan = std::make_unique<ModelPlan>();
  Model& model = plan->model;
  model.name = fs::path(options.path).lexically_normal().filename().string();
  if (model.name.empty()) model.name = fs::path(options.path).parent_path().filename().string();
  model.spec = LS_TRY(read_decoder_spec(config));
  LS_TRY(set_sparse_mode(options, model.spec));
  model.local = LS_TRY(shard(model.spec, options.shard));
  LS_TRY(read_generation(options, config, model));
  if (options.format == LoadFormat::kSafetensors) {
    plan->checkpoint = LS_TRY(Checkpoint::open(options.path));
    adopt_names(*plan->checkpoint, model.spec.naming);
    adopt_norms(*plan->checkpoint, model.spec);
    model.local.naming = model.spec.naming;
    model.local.softmax.qk_norm = model.spec.softmax.qk_norm;
  }

  const ComputeDType configured = LS_TRY(configured_dtype(config));
  const ComputeDType dtype = options.dtype == ComputeDType::kAuto ? configured : options.dtype;
  plan->weights = list_weights(model.spec, options.shard, DType::kBF16, model.weights);
  plan->weights.quantisation = LS_TRY(read_quantisation(config));
  choose_dtypes(dtype, exact_dtype(plan->weights, plan->checkpoint, configured), model);
  for (MatrixTarget& matrix : plan->weights.matrices) {
    matrix.dtype = model.weight_dtype;
    if (options.device != nullptr) matrix.layout = WeightLayout::kRowMajor;  // panels are the CPU's
  }
  model.parts = weight_bytes_by_part(plan->weights);
  if (plan->checkpoint) LS_TRY(check_weights(plan->weights, *plan->checkpoint));
  return plan;
}

Result<std::unique_ptr<Model>> load_model(const ModelOptions& options) {
  std::unique_ptr<ModelPlan> plan = LS_TRY(plan_model(options));
  // The list points into plan->model.weights; the model moves only after everything is loaded, and then its
  // weights, views into the arena, are still right.
  const LoadOptions load{.threads = options.threads, .device = options.device};
  Result<LoadedWeights> loaded = plan->checkpoint ? load_weights(plan->weights, *plan->checkpoint, load)
                                                  : make_dummy_weights(plan->weights, options.seed, load);
  if (!loaded.ok()) return loaded.status();
  auto model = std::make_unique<Model>(std::move(plan->model));
  model->loaded = std::move(loaded).value();
  return model;
}

}  // namespace lockstep
