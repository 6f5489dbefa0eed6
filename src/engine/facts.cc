#include "engine/facts.h"

#include <algorithm>
#include <filesystem>

#include "base/math.h"
#include "engine/rank_launcher.h"
#include "model/state_geometry.h"
#include "text/tokenizer.h"

namespace lockstep {
namespace {

constexpr int64_t kMaxPages = int64_t{1} << 30;

// What is left of a spec without layers: embedding, head, final norm.
int64_t parameters_of(const DecoderSpec& spec, const std::vector<LayerSpec>& layers) {
  DecoderSpec part = spec;
  part.layers = layers;
  return part.parameters();
}

int64_t kv_bytes_per_token(const DecoderSpec& spec, DType dtype) {
  return int64_t{2} * spec.softmax.kv_heads * spec.softmax.head_dim * size_of(dtype);
}

// A mean per 16 tokens and one per 64.
int64_t compressed_bytes_per_page(const DecoderSpec& spec, DType dtype, int32_t page_tokens) {
  if (!spec.softmax.sparse) return 0;
  return kv_bytes_per_token(spec, dtype) / 2 * (page_tokens / 16 + page_tokens / 64);
}

int64_t state_bytes_per_sequence(const DecoderSpec& spec) {
  const StateGeometry state = state_geometry(spec, 1);
  return state.conv_bytes() + state.memory_bytes();
}

std::vector<LayerFacts> layer_facts(const Model& model, const WeightPlan& weights) {
  const DecoderSpec& spec = model.spec;
  const DecoderSpec& local = model.local;
  const std::vector<WeightBytes> bytes = weight_bytes(weights);
  const int64_t around = parameters_of(spec, {});
  std::vector<LayerFacts> layers;
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    const LayerSpec& layer = spec.layers[i];
    LayerFacts facts{.index = static_cast<int32_t>(i), .mixer = layer.mixer, .mlp = layer.mlp};
    facts.parameters = parameters_of(spec, {layer}) - around;
    const std::string prefix = concat(spec.naming.prefix, "layers.", i, ".");
    for (const WeightBytes& weight : bytes) {
      if (weight.name.starts_with(prefix)) facts.weight_bytes += weight.bytes;
    }
    if (layer.mixer == Mixer::kSoftmax) {
      facts.kv_per_token = kv_bytes_per_token(local, model.cache_dtype);
    } else {
      facts.state_per_sequence = state_bytes_per_sequence(local);
    }
    layers.push_back(facts);
  }
  return layers;
}

MemoryFacts memory_facts(const ModelPlan& plan, const EngineSizes& sizes) {
  const DecoderSpec& spec = plan.model.local;
  const CacheGroup& pages = sizes.limits.group(kKvGroup);
  const int64_t softmax = spec.count(Mixer::kSoftmax), recurrent = spec.recurrent_layers();
  MemoryFacts memory{.weights = plan.model.parts};
  for (const WeightBytes& part : memory.weights) memory.weights_total += part.bytes;
  memory.kv_per_token = softmax * kv_bytes_per_token(spec, plan.model.cache_dtype);
  memory.state_per_sequence = recurrent * state_bytes_per_sequence(spec);
  memory.compressed_per_page =
      softmax * compressed_bytes_per_page(spec, plan.model.cache_dtype, pages.page_tokens);
  memory.compressed = memory.compressed_per_page * pages.num_pages;
  const int64_t tables = softmax == 0 ? 0 : memory.compressed > 0 ? 2 : 1;
  memory.page_tables = tables * pages.table_rows * pages.max_pages_per_seq * 4;
  if (recurrent > 0 && sizes.executor.layout.pool == KvPool::kOwn)
    memory.states = memory.state_per_sequence * sizes.limits.group(kStateGroup).num_pages;
  memory.pages = sizes.memory.cache - memory.states - memory.compressed - memory.page_tables;
  memory.activations = sizes.memory.activations;
  memory.total = memory.weights_total + sizes.memory.cache + memory.activations;
  return memory;
}

std::string pages_from(const EngineConfig& chosen) {
  const int64_t wanted = int64_t{chosen.max_num_seqs} * ceil_div(chosen.max_model_len, chosen.page_size);
  if (chosen.num_pages < wanted) return "half of the memory that weights leave, at least one sequence";
  return concat(chosen.max_num_seqs, " sequences of ", chosen.max_model_len, " tokens");
}

// The pages that an engine chooses once its weights are in memory, from what is free before; at least what
// one sequence needs, so that a model that does not fit can be looked at.
int32_t pages_beside(const MemoryFacts& memory, const EngineConfig& chosen) {
  const int64_t page =
      std::max<int64_t>(1, memory.kv_per_token * chosen.page_size + memory.compressed_per_page);
  const int64_t share = machine_memory().available / chosen.ranks_on_host - memory.weights_total;
  const int64_t left = std::max<int64_t>(0, share) / 2 / page;
  const int64_t one = ceil_div(chosen.max_model_len, chosen.page_size);
  return static_cast<int32_t>(std::min({one * chosen.max_num_seqs, std::max(left, one), kMaxPages}));
}

std::vector<Choice> choices_of(const EngineConfig& given, const EngineConfig& chosen) {
  const EngineConfig defaults;
  std::vector<Choice> choices;
  // `open` says who chooses where the config leaves it open.
  const auto add = [&]<typename T>(std::string flag, T EngineConfig::*member, const std::string& open = "") {
    std::string from = given.*member == defaults.*member ? "the default" : "given";
    if (from == "the default" && !open.empty()) from = open;
    if (from == "the default" && chosen.*member != given.*member) from = "what the other numbers leave";
    choices.push_back({.flag = std::move(flag), .value = concat(chosen.*member), .from = std::move(from)});
  };
  add("--threads", &EngineConfig::threads, "all CPUs of this process");
  add("--isa", &EngineConfig::isa, "the best this CPU has");
  add("--max-model-len", &EngineConfig::max_model_len, "the model's context");
  add("--max-num-seqs", &EngineConfig::max_num_seqs);
  add("--max-num-batched-tokens", &EngineConfig::max_num_batched_tokens);
  add("--chunk-size", &EngineConfig::chunk_size);
  add("--page-size", &EngineConfig::page_size);
  add("--num-pages", &EngineConfig::num_pages, pages_from(chosen));
  add("--num-state-slots", &EngineConfig::num_state_slots, "one per running sequence");
  add("--kv-layout", &EngineConfig::kv_layout);
  return choices;
}

Result<std::optional<int32_t>> tokenizer_vocab(const std::string& path) {
  const std::filesystem::path file = std::filesystem::path(path) / "tokenizer.json";
  std::error_code ignored;
  if (!std::filesystem::exists(file, ignored)) return std::optional<int32_t>();
  const Tokenizer tokenizer = LS_TRY(Tokenizer::load(file.string()));
  return std::optional<int32_t>(tokenizer.vocab_size());
}

}  // namespace

Result<ModelFacts> model_facts(const EngineConfig& config) {
  LS_TRY(check_parallel(config.parallel));
  const std::unique_ptr<Mesh> mesh = Mesh::without_ranks(config.parallel, 0);
  EngineConfig wanted = config;
  wanted.mesh = mesh.get();
  wanted.model.shard = shard_of(mesh->shape(), mesh->place());
  const std::unique_ptr<ModelPlan> plan = LS_TRY(plan_model(wanted.model));
  const Model& model = plan->model;
  ModelFacts facts{.name = model.name,
                   .path = config.model.path,
                   .ranks = config.parallel,
                   .spec = model.spec,
                   .local = model.local,
                   .weight_dtype = model.weight_dtype,
                   .cache_dtype = model.cache_dtype,
                   .input = model.input};
  facts.tokenizer_vocab = LS_TRY(tokenizer_vocab(config.model.path));
  facts.stop_ids = model.stop_ids;
  if (plan->checkpoint) facts.stored = stored_by_part(plan->weights, *plan->checkpoint);
  const int32_t vocab = facts.tokenizer_vocab.value_or(model.spec.vocab);
  if (config.num_pages == 0) {
    wanted.num_pages = 1;  // any number: only the others are of interest yet
    const EngineSizes first = LS_TRY(size_engine(wanted, model.local, model.cache_dtype, vocab));
    wanted.num_pages = pages_beside(memory_facts(*plan, first), first.config);
  }
  const EngineSizes sizes = LS_TRY(size_engine(wanted, model.local, model.cache_dtype, vocab));
  facts.pages = sizes.config.num_pages;
  facts.memory = memory_facts(*plan, sizes);
  facts.layers = layer_facts(model, plan->weights);
  facts.choices = choices_of(config, sizes.config);
  return facts;
}

}  // namespace lockstep
