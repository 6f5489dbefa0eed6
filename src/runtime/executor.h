// Executor: runs one plan on one device. It owns every buffer a step touches but the weights, allocates
// nothing in a step, and knows no request.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <vector>

#include "attention/attention_backend.h"
#include "attention/storage.h"
#include "comm/mesh.h"
#include "contract/binder.h"
#include "device/stream.h"
#include "guard/guard.h"
#include "kernels/batch_invariant.h"
#include "model/decoder.h"
#include "model/model.h"
#include "plan/step_plan.h"
#include "runtime/sampler.h"
#include "runtime/step_runner.h"

namespace lockstep {

struct ExecutorOptions {
  StepLimits limits;
  KvLayout layout;
  int32_t vocab_known = 0;  // ids that may be drawn; at most the model's vocabulary
  int threads = 1;
  Isa isa = Isa::kReference;
  DevicePtr device;              // null: the CPU
  bool batch_invariant = false;  // no kernel whose bits of a row follow from what shares its batch
  GuardLevel guard = GuardLevel::kReplay;
  Pace pace = Pace::kAtOnce;
  bool overlapped = false;           // start() may be called while the step before is under way
  std::optional<MatmulInput> input;  // nothing: as the model was loaded for
  Mesh* mesh = nullptr;              // the ranks that share the model; null: this one is alone
};

// Bytes that an executor takes, by part.
struct ExecutorMemory {
  int64_t cache = 0;        // keys, values, states, page tables
  int64_t activations = 0;  // forward pass, sampler, plan image, the device's report
};

// Time of one step by phase, in nanoseconds.
struct StepTimes {
  int64_t enqueue_ns = 0;  // bind, check, refresh, and the step itself where the stream runs at once
  int64_t finish_ns = 0;   // wait, check the device's report, read the tokens
};

// Thread: one owner, the engine's.
class Executor final : public StepProgram {
 public:
  // Errors: kInvalidArgument for a layout that does not fit; kResourceExhausted for memory.
  static Result<ExecutorMemory> memory(const DecoderSpec& spec, DType cache_dtype,
                                       const ExecutorOptions& options);
  // Borrows the model.
  static Result<std::unique_ptr<Executor>> create(const Model& model, const ExecutorOptions& options);

  // Runs a validated plan to its tokens. Errors: kInternal when a consumer and the plan do not fit, or when
  // the device read or left behind other bytes than the plan's; as Communicator when a collective failed. No
  // token of the step counts then.
  Status run(const StepPlan& plan, StepResult& result);
  // The same in two parts, where launches are not watched: the stream has it all when start() returns, and
  // finish() waits for it. Where options().overlapped, the next plan may be started in between.
  Status start(const StepPlan& plan);
  Status finish(const StepPlan& plan, StepResult& result);

  // As StepRunner::hold_beside(), of a plan that run() or start() is given next.
  [[nodiscard]] StepRunner::Beside hold_beside(const StepPlan& plan) {
    return runner_->hold_beside(plan, *this);
  }

  // At the level full: whether every launch is watched from now on. Off at first, so that nothing is said
  // about the proof of graphs. Ids of the sequences of the next step, for whoever reads what was found.
  void watch(bool on);
  void name_sequences(std::span<const uint64_t> ids) { sequence_ids_.assign(ids.begin(), ids.end()); }
  Guard* guard() { return guard_.get(); }  // null at other levels

  // Records a graph for plans of the key of `plan`, which need not be run. Errors: as StepRunner::capture.
  Status capture(const StepPlan& plan) { return runner_->capture(plan, *this, launcher()); }
  Status recapture(const StepPlan& plan) { return runner_->recapture(plan, *this, launcher()); }

  // A step's launches, for the runner: table edits, copies, decoder, sampler.
  Status prepare(const Binder& binder, PreparedStep& step) const override;
  Status enqueue(const PreparedStep& step, const Launcher& on) const override;

  // For tests and tools: the logits of the last step's logits rows, and the stream to observe.
  TensorView logits(int64_t rows) const { return decoder_->logits(rows); }
  Stream& stream() { return stream_; }
  StepRunner& runner() { return *runner_; }
  const StepRunner& runner() const { return *runner_; }
  const CacheStorage& storage() const { return storage_; }
  const MemoryMap& memory_map() const { return map_; }
  const ExecutorOptions& options() const { return options_; }
  const StepTimes& times() const { return times_; }

 private:
  struct Memory {
    CacheStorage storage;
    Arena cache;
    Arena work;
  };
  Executor(const Model& model, const ExecutorOptions& options, Memory memory,
           std::unique_ptr<DeviceQueue> queue);
  Status finish(Arena& work);
  Status run_unwatched(const StepPlan& plan, StepResult& result);
  // A step that was started.
  struct Started {
    uint64_t epoch = 0;
    Event end;  // its outcome has arrived
    int64_t enqueue_ns = 0;
  };
  Launcher launcher() {
    const Isa isa = options_.isa;
    return {options_.batch_invariant ? batch_invariant_table(isa) : kernel_table(isa), stream_};
  }
  struct CacheUpdate;
  // Page-table edits and copies: what must be done before anything reads a cache.
  Status prepare_caches(const Binder& binder, PreparedStep& step) const;
  Status update_caches(const PreparedStep& step, const Launcher& on) const;

  const Model& model_;
  ExecutorOptions options_;
  Arena cache_arena_;
  Arena work_arena_;
  CacheStorage storage_;
  std::unique_ptr<AttentionBackend> attention_;
  std::unique_ptr<RecurrentBackend> recurrent_;
  std::unique_ptr<Decoder> decoder_;
  std::unique_ptr<Sampler> sampler_;
  Stream stream_;
  MemoryMap map_;
  std::unique_ptr<StepRunner> runner_;
  std::unique_ptr<Guard> guard_;
  bool watched_ = false;
  std::vector<uint64_t> sequence_ids_;
  std::array<Started, Sampler::kArrivals> started_;  // by where their outcomes arrive
  int newest_ = 0;
  StepTimes times_;
};

// How records name a mixer.
LayerKind layer_kind(Mixer mixer);

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
