// lockstep inspect: what a model is and what it takes, before its weights are read.
#include <iostream>
#include <memory>

#include "cli/commands.h"
#include "cli/flags.h"
#include "diag/table.h"
#include "engine/facts.h"
#include "json/json_writer.h"

namespace lockstep::cli {
namespace {

struct InspectFlags {
  EngineFlags engine;
  bool json = false;
};

std::string mixer_text(const DecoderSpec& spec, Mixer mixer) {
  if (mixer == Mixer::kDelta) {
    const DeltaMixerSpec& d = spec.delta;
    return concat("delta, ", d.key_heads, " keys of ", d.key_dim, ", ", d.value_heads, " values of ",
                  d.value_dim, ", conv ", d.conv_width);
  }
  if (mixer == Mixer::kLightning) {
    const LightningMixerSpec& l = spec.lightning;
    return concat("lightning, ", l.heads, " heads over ", l.kv_heads, " of ", l.head_dim,
                  l.rope.dims < l.head_dim ? concat(", ", l.rope.dims, " rotated") : "",
                  l.output_gate != OutputGate::kNone ? ", gated" : "");
  }
  const SoftmaxMixerSpec& s = spec.softmax;
  return concat("softmax, ", s.heads, " heads over ", s.kv_heads, " of ", s.head_dim,
                s.rope.dims < s.head_dim ? concat(", ", s.rope.dims, " rotated") : "",
                s.output_gate != OutputGate::kNone ? ", gated" : "");
}

std::string mlp_text(const DecoderSpec& spec, Mlp mlp) {
  if (mlp == Mlp::kDense) return concat("dense ", spec.dense_width);
  const MoeSpec& m = spec.moe;
  return concat(m.choices, " of ", m.experts, " experts of ", m.expert_width,
                m.shared_width > 0 ? concat(", shared ", m.shared_width) : "");
}

std::string_view name_of(MatmulInput input) { return input == MatmulInput::kBF16 ? "bf16" : "f32"; }

std::string bytes_or_none(int64_t bytes) { return bytes == 0 ? "-" : bytes_text(static_cast<double>(bytes)); }

void print_model(const ModelFacts& facts) {
  const DecoderSpec& spec = facts.spec;
  Table table({{"", Align::kLeft}, {"", Align::kLeft}});
  table.row({"model", facts.name});
  table.row({"family", spec.family});
  table.row({"parameters", grouped(spec.parameters())});
  table.row({"active", grouped(spec.active_parameters()) + " per token"});
  table.row({"vocabulary",
             grouped(spec.vocab) + (facts.tokenizer_vocab
                                        ? concat(", the tokenizer knows ", grouped(*facts.tokenizer_vocab))
                                        : ", no tokenizer")});
  table.row({"context", grouped(spec.max_positions) + " tokens"});
  table.row({"width", grouped(spec.width) + (spec.tied_head ? ", head tied to the embedding" : "")});
  table.row({"numbers", concat("weights ", facts.weight_dtype, ", products ", name_of(facts.input),
                               ", keys and values ", facts.cache_dtype)});
  std::cout << table.text();
}

void print_layers(const ModelFacts& facts) {
  Table table({{"layer"},
               {"mixer", Align::kLeft},
               {"mlp", Align::kLeft},
               {"parameters"},
               {"weights"},
               {"KV/token"},
               {"state/sequence"}});
  for (const LayerFacts& layer : facts.layers) {
    table.row({std::to_string(layer.index), mixer_text(facts.spec, layer.mixer),
               mlp_text(facts.spec, layer.mlp), grouped(layer.parameters), bytes_or_none(layer.weight_bytes),
               bytes_or_none(layer.kv_per_token), bytes_or_none(layer.state_per_sequence)});
  }
  std::cout << "\n" << table.text();
}

struct Held {
  std::string what;
  int64_t held = 0;
  int64_t of = 0;
};

// What a rank has of everything that ranks share out among them.
std::vector<Held> held(const DecoderSpec& local, const DecoderSpec& whole) {
  std::vector<Held> all;
  if (whole.count(Mixer::kSoftmax) > 0) {
    all.push_back({"query heads", local.softmax.heads, whole.softmax.heads});
    all.push_back({"key and value heads", local.softmax.kv_heads, whole.softmax.kv_heads});
  }
  if (whole.count(Mixer::kDelta) > 0) {
    all.push_back({"delta key heads", local.delta.key_heads, whole.delta.key_heads});
    all.push_back({"delta value heads", local.delta.value_heads, whole.delta.value_heads});
  }
  if (whole.count(Mixer::kLightning) > 0) {
    all.push_back({"lightning heads", local.lightning.heads, whole.lightning.heads});
    all.push_back({"lightning key and value heads", local.lightning.kv_heads, whole.lightning.kv_heads});
  }
  if (whole.count(Mlp::kDense) > 0) all.push_back({"dense width", local.dense_width, whole.dense_width});
  if (whole.count(Mlp::kMoe) > 0) {
    all.push_back({"experts", local.moe.held.count, whole.moe.experts});
    all.push_back({"width of an expert", local.moe.expert_width, whole.moe.expert_width});
    if (whole.moe.shared_width > 0)
      all.push_back({"shared expert width", local.moe.shared_width, whole.moe.shared_width});
  }
  all.push_back({"rows of the vocabulary", local.vocab_rows.count, whole.vocab});
  return all;
}

void print_ranks(const ModelFacts& facts) {
  if (facts.ranks.world() == 1) return;
  Table table({{concat("each of ", facts.ranks.world(), " ranks"), Align::kLeft}, {"has"}, {"of"}});
  for (const Held& each : held(facts.local, facts.spec))
    table.row({each.what, grouped(each.held), grouped(each.of)});
  std::cout << "\n" << describe(facts.ranks) << "\n" << table.text();
}

// Name and bytes of every line, in the order they are shown in.
std::vector<std::pair<std::string, int64_t>> memory_lines(const MemoryFacts& memory) {
  std::vector<std::pair<std::string, int64_t>> lines;
  for (const WeightBytes& part : memory.weights) lines.emplace_back("  " + part.part, part.bytes);
  lines.emplace_back("weights", memory.weights_total);
  lines.emplace_back("cache pages", memory.pages);
  lines.emplace_back("recurrent states", memory.states);
  if (memory.compressed > 0) lines.emplace_back("compressed keys", memory.compressed);
  lines.emplace_back("page tables", memory.page_tables);
  lines.emplace_back("activations", memory.activations);
  lines.emplace_back("all", memory.total);
  lines.emplace_back("KV of one token", memory.kv_per_token);
  lines.emplace_back("states of one sequence", memory.state_per_sequence);
  return lines;
}

// Of each rank, and beside it, where there are several, of one that is alone with the same pages.
void print_memory(const ModelFacts& facts, const ModelFacts* alone) {
  const auto lines = memory_lines(facts.memory);
  std::vector<Table::Column> columns = {
      {alone == nullptr ? "memory" : "memory of each rank", Align::kLeft}, {"bytes"}, {""}};
  if (alone != nullptr) columns.push_back({"of one alone"});
  Table table(std::move(columns));
  for (size_t i = 0; i < lines.size(); ++i) {
    const auto& [what, bytes] = lines[i];
    std::vector<std::string> row = {what, grouped(bytes), bytes_text(static_cast<double>(bytes))};
    if (alone != nullptr)
      row.push_back(bytes_text(static_cast<double>(memory_lines(alone->memory)[i].second)));
    table.row(row);
  }
  std::cout << "\n" << table.text();
}

// Matrices as the checkpoint holds them, beside what they take here.
void print_stored(const ModelFacts& facts) {
  if (facts.stored.empty()) return;
  Table table(
      {{"matrices", Align::kLeft}, {"stored as", Align::kLeft}, {"tensors"}, {"on disk"}, {"in memory"}});
  StoredPart all{.part = "all"};
  for (const StoredPart& part : facts.stored) {
    table.row({part.part, part.form, grouped(part.tensors), bytes_text(static_cast<double>(part.bytes)),
               bytes_text(static_cast<double>(part.memory))});
    all.tensors += part.tensors;
    all.bytes += part.bytes;
    all.memory += part.memory;
  }
  table.row({all.part, "", grouped(all.tensors), bytes_text(static_cast<double>(all.bytes)),
             bytes_text(static_cast<double>(all.memory))});
  std::cout << "\n" << table.text();
}

void print_choices(const std::vector<Choice>& choices) {
  Table table({{"size", Align::kLeft}, {"value"}, {"from", Align::kLeft}});
  for (const Choice& choice : choices) table.row({choice.flag, choice.value, choice.from});
  std::cout << "\n" << table.text();
}

void write_model(const ModelFacts& facts, JsonWriter& json) {
  const DecoderSpec& spec = facts.spec;
  json.key("model").begin_object();
  json.member("name", facts.name).member("path", facts.path).member("family", spec.family);
  json.member("parameters", spec.parameters()).member("active_parameters", spec.active_parameters());
  json.member("vocabulary", spec.vocab).key("tokenizer_vocabulary");
  if (facts.tokenizer_vocab) {
    json.value(*facts.tokenizer_vocab);
  } else {
    json.value(nullptr);
  }
  json.member("context", spec.max_positions).member("width", spec.width).member("tied_head", spec.tied_head);
  json.member("weight_dtype", lockstep::name_of(facts.weight_dtype))
      .member("product_dtype", name_of(facts.input));
  json.member("cache_dtype", lockstep::name_of(facts.cache_dtype)).key("stop_ids").begin_array();
  for (const int32_t id : facts.stop_ids) json.value(id);
  json.end_array().end_object();
}

void write_memory(const MemoryFacts& memory, JsonWriter& json) {
  json.key("memory").begin_object().key("weights").begin_object();
  for (const WeightBytes& part : memory.weights) json.member(part.part, part.bytes);
  json.end_object().member("weights_total", memory.weights_total);
  json.member("cache_pages", memory.pages).member("recurrent_states", memory.states);
  if (memory.compressed > 0) json.member("compressed_keys", memory.compressed);
  json.member("page_tables", memory.page_tables).member("activations", memory.activations);
  json.member("total", memory.total).member("kv_bytes_per_token", memory.kv_per_token);
  json.member("state_bytes_per_sequence", memory.state_per_sequence).end_object();
}

std::string_view name_of(QkNorm norm) {
  switch (norm) {
    case QkNorm::kNone: return "none";
    case QkNorm::kPerHead: return "per_head";
    case QkNorm::kAllHeads: return "all_heads";
  }
  return "";
}

void write_stored(const std::vector<StoredPart>& stored, JsonWriter& json) {
  json.key("stored").begin_array();
  for (const StoredPart& part : stored) {
    json.begin_object().member("part", part.part).member("form", part.form);
    json.member("tensors", part.tensors).member("bytes", part.bytes).member("memory", part.memory);
    json.end_object();
  }
  json.end_array();
}

void write_mixer(Mixer mixer, const DecoderSpec& spec, JsonWriter& json) {
  if (mixer == Mixer::kSoftmax) {
    const SoftmaxMixerSpec& s = spec.softmax;
    json.member("mixer", "softmax").member("heads", s.heads).member("kv_heads", s.kv_heads);
    json.member("head_dim", s.head_dim).member("rotary_dims", s.rope.dims);
    json.member("qk_norm", name_of(s.qk_norm)).member("output_gate", s.output_gate != OutputGate::kNone);
  } else if (mixer == Mixer::kDelta) {
    const DeltaMixerSpec& d = spec.delta;
    json.member("mixer", "delta").member("key_heads", d.key_heads).member("value_heads", d.value_heads);
    json.member("key_dim", d.key_dim).member("value_dim", d.value_dim).member("conv_width", d.conv_width);
  } else {
    const LightningMixerSpec& l = spec.lightning;
    json.member("mixer", "lightning").member("heads", l.heads).member("kv_heads", l.kv_heads);
    json.member("head_dim", l.head_dim).member("rotary_dims", l.rope.dims).member("qk_norm", l.qk_norm);
    json.member("output_norm", l.output_norm).member("output_gate", l.output_gate != OutputGate::kNone);
  }
}

void write_layer(const LayerFacts& layer, const DecoderSpec& spec, JsonWriter& json) {
  json.begin_object().member("index", layer.index);
  write_mixer(layer.mixer, spec, json);
  json.member("mlp", layer.mlp == Mlp::kDense ? "dense" : "moe");
  if (layer.mlp == Mlp::kDense) {
    json.member("mlp_width", spec.dense_width);
  } else {
    json.member("experts", spec.moe.experts).member("choices", spec.moe.choices);
    json.member("expert_width", spec.moe.expert_width).member("shared_width", spec.moe.shared_width);
  }
  json.member("parameters", layer.parameters).member("weight_bytes", layer.weight_bytes);
  json.member("kv_bytes_per_token", layer.kv_per_token);
  json.member("state_bytes_per_sequence", layer.state_per_sequence).end_object();
}

void write_ranks(const ModelFacts& facts, JsonWriter& json) {
  const MeshShape& ranks = facts.ranks;
  json.key("ranks").begin_object().member("world", ranks.world()).member("tp", ranks.tp);
  json.member("dp", ranks.dp).member("cp", ranks.cp).member("expert_parallel", ranks.expert_parallel);
  json.key("held").begin_array();
  for (const Held& each : held(facts.local, facts.spec))
    json.begin_object()
        .member("what", each.what)
        .member("held", each.held)
        .member("of", each.of)
        .end_object();
  json.end_array().end_object();
}

void write_json(const ModelFacts& facts) {
  JsonWriter json;
  json.begin_object().member("schema", "lockstep.inspect/1");
  write_model(facts, json);
  write_ranks(facts, json);
  write_memory(facts.memory, json);
  write_stored(facts.stored, json);
  json.key("layers").begin_array();
  for (const LayerFacts& layer : facts.layers) write_layer(layer, facts.spec, json);
  json.end_array().key("sizes").begin_array();
  for (const Choice& choice : facts.choices) {
    json.begin_object().member("flag", choice.flag).member("value", choice.value);
    json.member("from", choice.from).end_object();
  }
  json.end_array().end_object();
  std::cout << std::move(json).take() << "\n";
}

Status run(const InspectFlags& flags) {
  const EngineConfig config = LS_TRY(engine_config(flags.engine));
  const ModelFacts facts = LS_TRY(model_facts(config));
  if (flags.json) {
    write_json(facts);
    return {};
  }
  print_model(facts);
  print_layers(facts);
  print_ranks(facts);
  if (facts.ranks.world() == 1) {
    print_memory(facts, nullptr);
  } else {
    EngineConfig lone = config;
    lone.parallel = {};
    lone.num_pages = facts.pages;
    const ModelFacts alone = LS_TRY(model_facts(lone));
    print_memory(facts, &alone);
  }
  print_stored(facts);
  print_choices(facts.choices);
  return {};
}

constexpr const char* kFooter =
    "Reads the config and the headers of the weights, never the weights. Memory is what an engine with "
    "these\n"
    "flags would take; weights and caches count pages of memory that are reserved, used or not. With --tp, "
    "--dp,\n"
    "--cp and --ep it is the memory of each rank; none is started.\n"
    "\n"
    "Examples:\n"
    "  lockstep inspect\n"
    "  lockstep inspect --model ./Qwen3-0.6B --max-num-seqs 8 --max-model-len 4096\n"
    "  lockstep inspect --load-format dummy --model qwen3-30b-a3b --tp 2 --dp 2 --ep\n"
    "  lockstep inspect --load-format dummy --model qwen3-30b-a3b --json\n";

}  // namespace

Command add_inspect(CLI::App& parent) {
  CLI::App* app = parent.add_subcommand("inspect", "Show a model's layers and the memory that it takes");
  const auto flags = std::make_shared<InspectFlags>();
  app->footer(kFooter);
  app->add_flag("--json", flags->json, "One JSON document instead of tables");
  add_engine_flags(*app, flags->engine);
  return {.app = app, .run = [flags](RankSession&) { return run(*flags); }};
}

}  // namespace lockstep::cli
