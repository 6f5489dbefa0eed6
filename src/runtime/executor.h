// Executor: runs one plan on one device. It owns every buffer a step touches but the weights, allocates
// nothing in a step, and knows no request.
#pragma once

#include <memory>
#include <vector>

#include "attention/attention_backend.h"
#include "attention/storage.h"
#include "contract/binder.h"
#include "device/stream.h"
#include "kernels/table.h"
#include "model/decoder.h"
#include "model/model.h"
#include "plan/step_plan.h"
#include "runtime/sampler.h"

namespace lockstep {

struct ExecutorOptions {
  StepLimits limits;
  KvLayout layout;
  int32_t vocab_known = 0;  // ids that may be drawn; at most the model's vocabulary
  int threads = 1;
  Isa isa = Isa::kReference;
};

// Bytes that an executor takes, by part.
struct ExecutorMemory {
  int64_t cache = 0;        // keys, values, states, page tables
  int64_t activations = 0;  // forward pass, sampler, plan image
};

// Time of one step by phase, in nanoseconds.
struct StepTimes {
  int64_t prepare_ns = 0;  // refresh, bind
  int64_t forward_ns = 0;  // tables, decoder
  int64_t sample_ns = 0;
};

// Thread: one owner, the engine's.
class Executor {
 public:
  // Errors: kInvalidArgument for a layout that does not fit; kResourceExhausted for memory.
  static Result<ExecutorMemory> memory(const DecoderSpec& spec, DType cache_dtype,
                                       const ExecutorOptions& options);
  // Borrows the model.
  static Result<std::unique_ptr<Executor>> create(const Model& model, const ExecutorOptions& options);

  // Runs a validated plan to its tokens. Errors: kInternal when a consumer and the plan do not fit.
  Status run(const StepPlan& plan, StepResult& result);

  // For tests and tools: the logits of the last step's logits rows, and the stream to observe.
  TensorView logits(int64_t rows) const { return decoder_->logits(rows); }
  Stream& stream() { return stream_; }
  const std::vector<Binding>& bindings() const { return bindings_; }  // of the last step
  const StepTimes& times() const { return times_; }

 private:
  Executor(const Model& model, const ExecutorOptions& options, CacheStorage storage, Arena cache, Arena work);
  Status finish(Arena& work);
  // Page-table edits and copies: what must be done before anything reads a cache.
  Status update_caches(const Binder& binder, const Launcher& on) const;

  const Model& model_;
  ExecutorOptions options_;
  Arena cache_arena_;
  Arena work_arena_;
  CacheStorage storage_;
  std::unique_ptr<AttentionBackend> attention_;
  std::unique_ptr<RecurrentBackend> recurrent_;
  std::unique_ptr<DeviceImage> image_;
  std::unique_ptr<Decoder> decoder_;
  std::unique_ptr<Sampler> sampler_;
  Stream stream_;
  std::vector<Binding> bindings_;
  StepTimes times_;
};

// The cache groups of a model, for StepLimits: pages and states as the numbers say.
struct CacheSizes {
  int32_t page_tokens = 0;
  int32_t num_pages = 0;    // the reserved one included
  int32_t state_slots = 0;  // the reserved one included
  int32_t table_rows = 0;   // the pad row included
  int32_t max_seq_len = 0;
};
void set_cache_groups(const DecoderSpec& spec, DType cache_dtype, const KvLayout& layout,
                      const CacheSizes& sizes, StepLimits& limits);

}  // namespace lockstep
