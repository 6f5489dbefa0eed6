// What a config leaves open is chosen here, once, from the model and the machine.
#include <algorithm>

#include "base/math.h"
#include "engine/engine.h"
#include "engine/facts.h"

namespace lockstep {
namespace {

constexpr int32_t kMaxThreads = 1024;
constexpr int32_t kMaxSeqs = 1 << 16;
constexpr int32_t kMaxRows = 1 << 20;
constexpr int32_t kMaxPageTokens = 1 << 16;
constexpr int64_t kMaxPages = int64_t{1} << 30;

Status check_range(std::string_view flag, int64_t value, int64_t low, int64_t high) {
  if (value >= low && value <= high) return {};
  return error(Code::kInvalidArgument, "engine: ", flag, " is ", value, "; expected ", low, "..", high);
}

Status check_config(const EngineConfig& config, const DecoderSpec& spec) {
  LS_TRY(check_range("--threads", config.threads, 1, kMaxThreads));
  LS_TRY(check_range("--max-model-len", config.max_model_len, 2, spec.max_positions));
  LS_TRY(check_range("--max-num-seqs", config.max_num_seqs, 1, kMaxSeqs));
  LS_TRY(check_range("--max-num-batched-tokens", config.max_num_batched_tokens, 1, kMaxRows));
  LS_TRY(check_range("--chunk-size", config.chunk_size, 1, config.max_num_batched_tokens));
  LS_TRY(check_range("--page-size", config.page_size, 1, kMaxPageTokens));
  LS_TRY(check_range("--num-state-slots", config.num_state_slots, 1, kMaxSeqs + 1));
  const MeshShape joined = config.mesh == nullptr ? MeshShape() : config.mesh->shape();
  if (config.parallel.world() != joined.world() || (joined.world() > 1 && config.parallel != joined)) {
    return error(Code::kInvalidArgument, "engine: ranks of ", describe(config.parallel),
                 " are asked for; expected ", describe(joined), ", as this one has joined");
  }
  for (const int32_t size : config.graph_sizes) {
    LS_TRY(check_range("--graph-sizes", size, 1, config.max_num_batched_tokens));
  }
  return {};
}

// Bytes of one page over all layers.
int64_t bytes_per_page(const DecoderSpec& spec, DType dtype, int32_t page_tokens) {
  const int64_t elements =
      int64_t{spec.count(Mixer::kSoftmax)} * spec.softmax.kv_heads * spec.softmax.head_dim;
  return elements * size_of(dtype) *
         (int64_t{2} * page_tokens + (spec.softmax.sparse ? page_tokens / 16 + page_tokens / 64 : 0));
}

// What the kernels of block-sparse attention are made for, and pages that compressed keys can have.
Status check_sparse(const EngineConfig& config, const DecoderSpec& spec) {
  if (!spec.softmax.sparse) return {};
  const SparseSpec& sparse = *spec.softmax.sparse;
  if (sparse.block != 64 || sparse.kernel != 32 || sparse.stride != 16) {
    return error(Code::kUnimplemented, "engine: ", spec.family, " has blocks of ", sparse.block,
                 " keys, windows of ", sparse.kernel, " every ", sparse.stride,
                 "; expected 64, 32 and 16, which is what block-sparse attention is made for");
  }
  if (sparse.init_blocks < 0 || sparse.window_blocks < 1 || sparse.top_blocks < sparse.init_blocks + 1) {
    return error(Code::kInvalidArgument, "engine: ", spec.family, " chooses ", sparse.top_blocks,
                 " blocks beside ", sparse.window_blocks, " of a window, of them the first ",
                 sparse.init_blocks,
                 "; expected a window of at least 1, and room for the first ones and the row's own");
  }
  if (config.page_size % sparse.block == 0) return {};
  return error(Code::kInvalidArgument, "engine: --page-size is ", config.page_size,
               "; expected a multiple of ", sparse.block, ", the tokens of a block of ", spec.family);
}

Status choose_pages(EngineConfig& config, const DecoderSpec& spec, DType cache_dtype) {
  const int64_t per_sequence = ceil_div(config.max_model_len, config.page_size);
  if (config.num_pages == 0) {
    const int64_t wanted = per_sequence * config.max_num_seqs;
    const int64_t bytes = std::max<int64_t>(1, bytes_per_page(spec, cache_dtype, config.page_size));
    const Device* device = config.model.device.get();
    const int64_t available = device != nullptr ? device->memory().available : machine_memory().available;
    const int64_t share = available / 2 / config.ranks_on_host;
    config.num_pages = static_cast<int32_t>(std::min({wanted, share / bytes, kMaxPages}));
  }
  return check_range("--num-pages", config.num_pages, 1, kMaxPages);
}

void choose_graph_sizes(EngineConfig& config) {
  std::vector<int32_t>& sizes = config.graph_sizes;
  if (config.enforce_eager) {
    sizes.clear();
    return;
  }
  if (sizes.empty()) {
    for (int32_t size = 1; size < config.max_num_seqs; size += size < 8 ? size : 8) sizes.push_back(size);
    sizes.push_back(config.max_num_seqs);
  }
  std::sort(sizes.begin(), sizes.end());
  sizes.erase(std::unique(sizes.begin(), sizes.end()), sizes.end());
}

int32_t largest_graph(const EngineConfig& chosen) {
  return chosen.graph_sizes.empty() ? 0 : chosen.graph_sizes.back();
}

// Sequences of a step, pad sequences of up to a page included.
int32_t most_seqs(const EngineConfig& chosen, bool meet, const StepLimits& limits) {
  const int32_t per_pad = std::min(chosen.page_size, chosen.max_model_len);
  int32_t seqs = std::max(chosen.max_num_seqs, largest_graph(chosen));
  // A rank that shares the rows has two parts of each sequence, and a row less of each than another at most.
  if (limits.cp_ranks > 1)
    seqs = std::max(seqs, 2 * chosen.max_num_seqs + ceil_div(chosen.max_num_seqs, per_pad));
  // Where replicas meet, the one with fewer rows pads to the other's.
  if (meet) seqs += ceil_div(limits.max_rows, per_pad);
  return seqs;
}

Isa parse_isa(std::string_view name, Isa best) {
  for (const Isa isa : {Isa::kReference, Isa::kAvx2, Isa::kAvx512, Isa::kAvx512Bf16}) {
    if (name_of(isa) == name && isa <= best) return isa;
  }
  return best;
}

// What a device does not do.
Status check_device(const EngineConfig& config, const DecoderSpec& spec) {
  const bool ranks = config.mesh != nullptr && config.parallel.world() > 1;
  const std::string_view refused =
      !config.isa.empty()                                     ? "--isa"
      : ranks && config.guard == GuardLevel::kFull            ? "--guard full of several ranks"
      : config.parallel.cp > 1 && spec.recurrent_layers() > 0 ? "--cp of a model with recurrent states"
                                                              : "";
  if (refused.empty()) return {};
  return error(Code::kUnimplemented, "engine: ", refused, " is asked for on device ", config.device,
               "; expected it on device cpu alone; leave it out, or use --device cpu");
}

Status choose_kernels(EngineConfig& chosen, const DecoderSpec& spec, ExecutorOptions& executor) {
  if (chosen.model.device != nullptr) {
    LS_TRY(check_device(chosen, spec));
    chosen.threads = 1;  // it launches, and computes nothing
    executor.isa = Isa::kSm90;
    chosen.isa = name_of(executor.isa);
    return {};
  }
  const CpuInfo cpu = detect_cpu();
  executor.isa = parse_isa(chosen.isa, cpu.best);
  if (!chosen.isa.empty() && name_of(executor.isa) != chosen.isa) {
    return error(Code::kInvalidArgument, "engine: isa is ", chosen.isa, "; expected at most ",
                 name_of(cpu.best), ", which is what this CPU has");
  }
  chosen.isa = name_of(executor.isa);
  return {};
}

}  // namespace

bool replicas_meet(const EngineConfig& config, const DecoderSpec& spec) {
  if (config.mesh == nullptr) return false;
  const MeshShape& shape = config.mesh->shape();
  return shape.dp > 1 && shape.expert_parallel && spec.count(Mlp::kMoe) > 0;
}

Result<EngineSizes> size_engine(const EngineConfig& config, const DecoderSpec& spec, DType cache_dtype,
                                int32_t vocab_known) {
  EngineSizes sizes;
  EngineConfig& chosen = sizes.config = config;
  if (chosen.threads == 0) chosen.threads = detect_cpu().cpus;
  if (chosen.max_model_len == 0) chosen.max_model_len = spec.max_positions;
  // One more than sequences: the state that the proof of a graph begins from.
  if (chosen.num_state_slots == 0) chosen.num_state_slots = chosen.max_num_seqs + 1;
  chosen.chunk_size = std::min(chosen.chunk_size, chosen.max_num_batched_tokens);
  LS_TRY(check_config(chosen, spec));
  LS_TRY(check_sparse(chosen, spec));
  LS_TRY(choose_pages(chosen, spec, cache_dtype));
  chosen.max_num_seqs = std::min(chosen.max_num_seqs, chosen.max_num_batched_tokens);
  LS_TRY(choose_kernels(chosen, spec, sizes.executor));
  choose_graph_sizes(chosen);

  StepLimits& limits = sizes.limits;
  limits.max_rows = chosen.max_num_batched_tokens;
  limits.cp_ranks = chosen.mesh == nullptr ? 1 : chosen.mesh->shape().cp;
  limits.max_seqs = most_seqs(chosen, replicas_meet(chosen, spec), limits);
  limits.max_logits_rows = std::max(chosen.max_num_seqs, largest_graph(chosen));
  limits.max_seq_len = chosen.max_model_len;
  // Every page that a step's rows can begin, and the pad row's first entry.
  limits.max_edits = limits.max_rows / chosen.page_size + 2 * chosen.max_num_seqs + 1;
  limits.max_copies = chosen.max_num_seqs;
  limits.vocab_size = spec.vocab;
  limits.dp_ranks = replicas_meet(chosen, spec) ? chosen.mesh->shape().dp : 1;
  limits.penalty_slots = chosen.max_num_seqs + 1;
  const KvLayout layout = LS_TRY(parse_kv_layout(chosen.kv_layout));
  set_cache_groups(spec, cache_dtype, layout,
                   {.page_tokens = chosen.page_size,
                    .num_pages = chosen.num_pages + 1,
                    .state_slots = chosen.num_state_slots + 1,
                    .table_rows = chosen.max_num_seqs + 1,
                    .max_seq_len = chosen.max_model_len},
                   limits);
  LS_TRY(check_limits(limits));
  sizes.executor = {.limits = limits,
                    .layout = layout,
                    .vocab_known = vocab_known,
                    .threads = chosen.threads,
                    .isa = sizes.executor.isa,
                    .device = chosen.model.device,
                    .batch_invariant = chosen.batch_invariant,
                    .guard = chosen.guard,
                    .pace = chosen.pace,
                    .overlapped = reason_against_overlap(chosen, spec).empty(),
                    .mesh = chosen.mesh};
  sizes.memory = LS_TRY(Executor::memory(spec, cache_dtype, sizes.executor));
  return sizes;
}

}  // namespace lockstep
