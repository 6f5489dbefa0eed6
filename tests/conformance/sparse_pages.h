// Sparse attention for decode steps: a kernel inside the graph scores each sequence's pages and selects the
// best, a second one attends to those alone. What is selected lies in derived fields, made on the device: the
// case of a consumer that plans inside its own graph.
#pragma once

#include <memory>

#include "attention/attention_backend.h"
#include "conformance/host_kernels.h"
#include "contract/derived.h"

namespace lockstep::conformance {

// Pages that a row attends to at most.
inline constexpr int32_t kTopPages = 3;

// Pages selected of each sequence: min(kTopPages, pages it has).
extern const DerivedSpec kSelectedCounts;
// Where each sequence's entries of kSelectedPages begin: their prefix sums.
extern const DerivedSpec kSelectedStarts;
// Indices into the sequence's row of the page table, ascending.
extern const DerivedSpec kSelectedPages;

// Where the kernel writes the sums. The plan's own memory is how the field got it wrong: a buffer that was
// handed to the planner and rewritten inside the graph, so that the next step plans from what is left there.
enum class SumsIn : uint8_t { kOwnField, kPlan };

class SparsePages final : public AttentionBackend {
 public:
  // Borrows the storage. `host` runs the kernels where that lies on a device; null: the CPU.
  SparsePages(const CacheStorage& storage, SumsIn sums, std::unique_ptr<HostKernels> host)
      : storage_(storage), sums_(sums), host_(std::move(host)) {}

  const ConsumerSpec& spec() const override;
  int64_t workspace_bytes(int threads, int32_t heads, int32_t kv_heads, int32_t head_dim) const override;
  // Decode steps alone: the spec needs one row per sequence.
  Status prepare(const Binder& binder, GroupId group, PreparedStep& step) const override;
  Status run(const PreparedStep& step, GroupId group, const AttentionTensors& tensors, int32_t layer,
             const Launcher& on) const override;

 private:
  const CacheStorage& storage_;
  SumsIn sums_;
  std::unique_ptr<HostKernels> host_;
};

}  // namespace lockstep::conformance
