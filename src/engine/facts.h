// Facts for `inspect` and `devices`: what a model is and takes, and what this machine offers. Nothing here
// loads weights or takes memory.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "device/cpu_info.h"
#include "device/roofs.h"
#include "engine/engine.h"

namespace lockstep {

// Where memory goes on one rank, in bytes.
struct MemoryFacts {
  std::vector<WeightBytes> weights;  // by part
  int64_t weights_total = 0;
  int64_t pages = 0;       // keys and values; with a shared pool the states too
  int64_t states = 0;      // recurrent states in a pool of their own
  int64_t compressed = 0;  // compressed keys of block-sparse layers
  int64_t page_tables = 0;
  int64_t activations = 0;
  int64_t total = 0;
  int64_t kv_per_token = 0;         // over all layers
  int64_t compressed_per_page = 0;  // likewise
  int64_t state_per_sequence = 0;   // over all layers
};

// One layer: parameters of the whole model, bytes of one rank. Numbers that its kind does not have are 0.
struct LayerFacts {
  int32_t index = 0;
  Mixer mixer = Mixer::kSoftmax;
  Mlp mlp = Mlp::kDense;
  int64_t parameters = 0;
  int64_t weight_bytes = 0;
  int64_t kv_per_token = 0;
  int64_t state_per_sequence = 0;
};

// A number of the engine's config, and who chose it.
struct Choice {
  std::string flag;   // "--max-model-len"
  std::string value;  // "4096"
  std::string from;   // "given", "the default", "the model's context"
};

struct ModelFacts {
  std::string name;
  std::string path;
  MeshShape ranks;    // that the config asks for
  DecoderSpec spec;   // of the whole model
  DecoderSpec local;  // of what each rank computes, which is as much on all of them
  DType weight_dtype = DType::kBF16;
  DType cache_dtype = DType::kF32;
  MatmulInput input = MatmulInput::kF32;
  std::optional<int32_t> tokenizer_vocab;  // none without tokenizer.json
  std::vector<int32_t> stop_ids;
  int32_t pages = 0;  // of a rank's cache
  MemoryFacts memory;
  std::vector<StoredPart> stored;  // of the checkpoint; none for dummies
  std::vector<LayerFacts> layers;
  std::vector<Choice> choices;
};

// Of each of the ranks that config.parallel asks for; none has to be started. Errors: as plan_model,
// Tokenizer::load, check_parallel and size_engine.
Result<ModelFacts> model_facts(const EngineConfig& config);

// Memory that this process may take, in bytes.
struct MachineMemory {
  int64_t total = 0;
  int64_t available = 0;  // without swapping, as the kernel estimates; at most what the control group leaves
};
MachineMemory machine_memory();

inline constexpr std::array<Isa, 5> kIsas = {Isa::kReference, Isa::kAvx2, Isa::kAvx512, Isa::kAvx512Bf16,
                                             Isa::kSm90};

// A GPU that this build can compute on.
struct GpuFacts {
  std::string device;  // "cuda:0"
  std::string name;    // "NVIDIA H200, 132 multiprocessors"
  MachineMemory memory;
  std::optional<Roofs> roofs;  // if asked for
};
// In order of number; none where there is none, or the build knows none. Errors: as Device::measure_roofs.
Result<std::vector<GpuFacts>> gpu_facts(bool measure);

// Whose code serves an op in the kernel table of each instruction set of kIsas.
struct OpSupport {
  std::string_view op;
  std::array<std::string_view, kIsas.size()> served_by;  // "avx2"; empty: the table has no such kernel
};

// The support matrix: a line per op of KernelTable, in its order.
std::vector<OpSupport> op_support();

// Runs measure_roofs on `threads` threads; 0: all CPUs. Errors: as measure_roofs; kInvalidArgument
// for a number of threads below 0 or above 1024.
Result<Roofs> machine_roofs(int threads);

}  // namespace lockstep
