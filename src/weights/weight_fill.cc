#include "weights/weight_fill.h"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>

#include "base/clock.h"
#include "base/math.h"
#include "kernels/linear/linear.h"

namespace lockstep {
namespace {

constexpr int64_t kStagingBytes = int64_t{1} << 20;  // stays in the second-level cache between read and pack
constexpr int64_t kJobBytes = int64_t{16} << 20;     // of the target: a few milliseconds of work

// A share of one weight that one thread fills: rows [begin, end) of one expert's matrix, or a whole tensor.
// `begin` is a multiple of a panel, so no two jobs write to the same line.
struct Job {
  const MatrixTarget* matrix = nullptr;
  const TensorTarget* tensor = nullptr;
  int64_t expert = 0;
  int64_t begin = 0;
  int64_t end = 0;
};

std::vector<Job> jobs_of(const WeightPlan& plan) {
  std::vector<Job> jobs;
  for (const MatrixTarget& target : plan.matrices) {
    const int64_t rows = rows_of(target.parts);
    const int64_t fitting = kJobBytes / (target.k * size_of(target.dtype));
    const int64_t step = round_up(std::clamp<int64_t>(fitting, 1, rows), kPanelColumns);
    for (int64_t expert = 0; expert < target.experts; ++expert) {
      for (int64_t row = 0; row < rows; row += step) {
        jobs.push_back(
            {.matrix = &target, .expert = expert, .begin = row, .end = std::min(row + step, rows)});
      }
    }
  }
  for (const TensorTarget& target : plan.tensors) jobs.push_back({.tensor = &target});
  return jobs;
}

Status place(const WeightPlan& plan, Arena& arena) {
  for (const MatrixTarget& target : plan.matrices) {
    const int64_t rows = rows_of(target.parts);
    const int64_t each = packed_elements(target.dtype, target.layout, rows, target.k);
    const TensorView memory = LS_TRY(arena.allocate(target.name, target.dtype, {target.experts, each}));
    *target.into = {.data = memory.data,
                    .dtype = target.dtype,
                    .layout = target.layout,
                    .experts = target.experts,
                    .n = rows,
                    .k = target.k,
                    .expert_stride = each};
  }
  for (const TensorTarget& target : plan.tensors) {
    *target.into = LS_TRY(arena.allocate(target.name, DType::kF32, target.shape));
  }
  return {};
}

// `count` rows of a segment, `skip` rows behind its beginning.
RowSegment piece_of(const RowSegment& segment, int64_t skip, int64_t count) {
  const bool zeros = segment.source_row == kZeroRows;
  return {.part = segment.part,
          .source_row = zeros ? kZeroRows : segment.source_row + skip,
          .target_row = segment.target_row + skip,
          .count = count};
}

// What a thread keeps from one job to the next.
struct Staging {
  std::vector<char> rows;  // to be packed
  QuantisedBlock block;    // to be made into rows
};

// The work of one load, shared by its threads.
class Filling {
 public:
  Filling(const WeightPlan& plan, const RowSource& source, Progress& progress)
      : jobs_(jobs_of(plan)), source_(source), progress_(progress), failed_(jobs_.size()) {}

  // Takes jobs until none is left or one failed.
  void work() {
    Staging staging;
    while (true) {
      const size_t next = next_.fetch_add(1);
      if (next >= jobs_.size() || failed_.load() < next) return;
      Status status = run(jobs_[next], staging);
      if (!status.ok()) fail(next, std::move(status));
    }
  }

  size_t num_jobs() const { return jobs_.size(); }
  // The failure of the first job that failed. Precondition: all threads are done.
  Status take_status() { return std::move(status_); }

 private:
  // Jobs before the failed one go on, so that the failure reported does not depend on the threads' order.
  void fail(size_t job, Status status) {
    const std::lock_guard lock(mutex_);
    if (job >= failed_.load()) return;
    failed_.store(job);
    status_ = std::move(status);
  }

  Status run(const Job& job, Staging& staging) {
    if (job.tensor != nullptr) {
      LS_TRY(source_.read_tensor(*job.tensor, static_cast<float*>(job.tensor->into->data)));
      progress_.advance(job.tensor->into->bytes());
      return {};
    }
    for (const RowSegment& segment : segments_of(source_.form_of(*job.matrix))) {
      const int64_t begin = std::max(job.begin, segment.target_row);
      const int64_t end = std::min(job.end, segment.target_row + segment.count);
      if (begin >= end) continue;
      LS_TRY(pack(job, piece_of(segment, begin - segment.target_row, end - begin), staging));
    }
    return {};
  }

  Status pack(const Job& job, const RowSegment& segment, Staging& staging) {
    const MatrixTarget& target = *job.matrix;
    const bool zeros = segment.source_row == kZeroRows;
    const int64_t expert = target.held.begin + job.expert;
    const DType dtype = zeros ? target.dtype : source_.dtype_of(target, *segment.part, expert);
    const int64_t row_bytes = target.k * size_of(dtype);
    const int64_t step = std::max<int64_t>(kStagingBytes / row_bytes, 1);
    std::vector<char>& rows = staging.rows;
    rows.resize(std::max(rows.size(), static_cast<size_t>(std::min(step, segment.count) * row_bytes)));
    const bool ahead = !zeros && LS_TRY(source_.read_ahead(target, segment, expert, staging.block));
    for (int64_t done = 0; done < segment.count; done += step) {
      const RowSegment chunk = piece_of(segment, done, std::min(step, segment.count - done));
      if (zeros) {
        std::fill_n(rows.begin(), chunk.count * row_bytes, '\0');
      } else if (ahead) {
        dequantise(staging.block, chunk.source_row, dense_view(rows.data(), dtype, {chunk.count, target.k}));
      } else {
        LS_TRY(source_.read_rows(target, chunk, expert, rows.data()));
      }
      pack_rows(dense_view(rows.data(), dtype, {chunk.count, target.k}), *target.into, job.expert,
                chunk.target_row);
      progress_.advance(chunk.count * target.k * size_of(target.dtype));
    }
    return {};
  }

  const std::vector<Job> jobs_;
  const RowSource& source_;
  Progress& progress_;
  std::atomic<size_t> next_{0};
  std::atomic<size_t> failed_;
  std::mutex mutex_;
  Status status_;
};

void run_on_threads(Filling& filling, int threads) {
  std::vector<std::thread> others;
  const auto wanted = std::min(static_cast<size_t>(std::max(threads, 1)), filling.num_jobs());
  for (size_t i = 1; i < wanted; ++i) {
    try {
      others.emplace_back([&filling] { filling.work(); });
    } catch (const std::system_error&) {
      break;  // a system without more threads loads with those it has
    }
  }
  filling.work();
  for (std::thread& thread : others) thread.join();
}

// The same weights at the same offsets of a device's memory.
Result<Arena> move_to_device(const WeightPlan& plan, const Arena& filled, const DevicePtr& device) {
  Arena arena = LS_TRY(Arena::create("weights", filled.used(), device));
  LS_TRY(place(plan, arena));
  LS_CHECK(arena.used() == filled.used(), arena.used(), " of ", filled.used());
  const TensorView all = dense_view(const_cast<void*>(arena.data()), DType::kU8, {arena.used()});
  LS_TRY(arena.fill(all, filled.data()));
  return arena;
}

}  // namespace

Result<LoadedWeights> place_and_fill(const WeightPlan& plan, const RowSource& source, std::string_view what,
                                     const LoadOptions& options) {
  const int64_t start = now_ns();
  const int64_t bytes = LS_TRY(weight_footprint(plan));
  Arena arena = LS_TRY(Arena::create("weights", bytes));
  LS_TRY(place(plan, arena));
  Progress progress(std::string(what), bytes, ProgressUnit::kBytes, options.progress);
  Filling filling(plan, source, progress);
  run_on_threads(filling, options.threads);
  LS_TRY(filling.take_status());
  if (options.device != nullptr) arena = LS_TRY(move_to_device(plan, arena, options.device));
  progress.finish();
  return LoadedWeights{.arena = std::move(arena), .bytes = progress.done(), .seconds = seconds_since(start)};
}

}  // namespace lockstep
