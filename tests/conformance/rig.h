// Rig: a small engine without a model: arenas, caches, a stream, a step runner. What a case enqueues between
// the plan and the report is a StepProgram of its own.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "attention/storage.h"
#include "conformance/planner.h"
#include "device/memory_map.h"
#include "guard/guard.h"
#include "runtime/step_runner.h"

namespace lockstep::conformance {

// How steps are run.
enum class Mode : uint8_t { kEager, kGraph };

struct RigOptions {
  CacheGeometry cache;
  StepLimits limits;
  int threads = 1;
  DevicePtr device;  // null: the CPU
  Pace pace = Pace::kAtOnce;
  GuardLevel level = GuardLevel::kReplay;
  int64_t work_bytes = 0;     // of what the case allocates for itself
  int64_t staging_bytes = 4;  // of the largest upload
  std::vector<const DerivedSpec*> derived;
};

// The group of compressed keys, where a cache has them.
inline constexpr GroupId kCompressedPages{1};

// The limits of a cache: groups as its geometry says, pages of one size.
StepLimits limits_for(const CacheGeometry& cache, int32_t max_rows, int32_t max_seqs, int32_t max_seq_len);

// Thread: one owner.
class Rig {
 public:
  static Result<std::unique_ptr<Rig>> create(const RigOptions& options);

  // Runs the step and holds the device's report to the plan. Mode kGraph captures keys that have no graph.
  // At the level full the guard watches every launch. Errors: as StepRunner and Guard; kUnimplemented where
  // the program may not be captured.
  Status run(const StepPlan& plan, const StepProgram& program, Mode mode);
  // Memory to and from the device, in the order of the stream; download() waits for it.
  Status upload(const TensorView& target, const void* bytes);
  Status download(const TensorView& source, void* bytes);
  // The image that kernels read is the plan, byte for byte.
  Status check_image(const StepPlan& plan);
  // All bytes of the caches, without the page table.
  Result<std::vector<uint8_t>> cache_bytes();

  Launcher launcher() { return {table_, stream_}; }
  Planner& planner() { return planner_; }
  const CacheStorage& storage() const { return storage_; }
  StepRunner& runner() { return *runner_; }
  Stream& stream() { return stream_; }
  Arena& work() { return work_; }

 private:
  struct Memory {
    CacheStorage storage;
    Arena cache;
    Arena work;
    std::unique_ptr<DeviceQueue> queue;
  };
  Rig(const RigOptions& options, Memory memory, int64_t cache_bytes);

  Arena cache_;
  Arena work_;
  CacheStorage storage_;
  Planner planner_;
  const KernelTable& table_;
  Stream stream_;
  StagingRing staging_;
  MemoryMap map_;
  std::unique_ptr<StepRunner> runner_;
  std::unique_ptr<Guard> guard_;  // at the level full
  int64_t cache_used_;
};

// What every step does before its layers: the page tables' edits. For programs.
struct TableUpdate {
  TensorView edits;
  const int32_t* num_edits = nullptr;
};
Status prepare_tables(const Binder& binder, PreparedStep& step);
Status update_tables(const PreparedStep& step, const CacheStorage& storage, const Launcher& on);

// Numbers in [-1, 1) that follow from `key` alone.
void fill_numbers(uint64_t key, std::span<float> values);

// What stands in pad rows and in memory that nobody owns.
enum class Poison : uint8_t { kNan, kLargest, kGarbage };
void fill_poison(Poison poison, std::span<float> values);

// A step as a case asks for it.
struct RigStep {
  std::vector<Share> shares;
  Bucket bucket;
  Mode mode = Mode::kEager;
  Poison poison = Poison::kNan;
  bool compare = true;  // with the oracle; pad rows are looked at always
};
RigStep decode_step(std::span<const int32_t> sequences, int32_t bucket, Mode mode, bool compare);
RigStep prefill_step(int32_t sequence, int32_t rows);  // eagerly, without pads

}  // namespace lockstep::conformance
