// StepReport: what the device says it read. Before the step's first launch a small kernel computes the digest
// of every plan field from the bytes that the kernels will read; after its last one another computes that of
// the whole image, and a third checks the structure of those bytes. The host compares all of it with the plan
// before it accepts a token.
#pragma once

#include <vector>

#include "base/digest.h"
#include "contract/device_image.h"
#include "device/arena.h"
#include "device/stream.h"
#include "kernels/common/launcher.h"
#include "kernels/plan_check/plan_check.h"

namespace lockstep {

class StepPlan;
class StagingRing;

// The page table of a paged group, as the device holds it.
struct DeviceTable {
  GroupId group;
  TensorView pages;  // [R, M] i32
};

// Tables that are verified each step, of one group, beside those of the steps before and after.
inline constexpr int32_t kTablesPerStep = 4;

// Thread: one owner. Cost: two passes over the image on one thread.
class StepReport {
 public:
  static int64_t footprint();
  static Result<StepReport> create(const StepLimits& limits, Arena& arena);

  // Tables whose rows are verified, a share of them each step.
  void set_tables(std::vector<DeviceTable> tables) {
    tables_ = std::move(tables);
    image_bytes_ = -1;  // lay out anew
  }

  // Enqueue, in this order: before the step, after it, and the way back to the host.
  Status head(const StepPlan& plan, const DeviceImage& image, StagingRing& staging, const Launcher& on);
  Status tail(const StepPlan& plan, bool all_tables, const Launcher& on);
  Status download(Stream& stream);

  // Holds the report to the plan; the stream has passed download().
  // Errors: kInternal, with a fault of moment kCommit: the stream has not passed download() (L5); the head
  // saw another step (R3) or other bytes of a field (R3); the tail saw other bytes than the head: a kernel
  // wrote them (R4); the structure does not hold on the device (R6). `image` is looked at to say which entry
  // it is.
  Status check(const StepPlan& plan, const DeviceImage& image) const;

  uint64_t head_epoch() const { return host_[0]; }
  std::span<const Digest> head_digests() const { return {host_.data() + 1, fields_}; }
  Digest tail_digest() const { return host_[tail_at() + 1]; }

 private:
  // The report, in words: the head's epoch and digests, the tail's epoch and digest, 4 words of structure for
  // each table.
  size_t tail_at() const { return fields_ + 1; }
  size_t structure_at() const { return tail_at() + 2; }
  static constexpr int64_t kStructureWords = 4;
  static constexpr int64_t kMost = int64_t{kNumFields} * kMaxGroups;
  static constexpr int64_t kMostWords = kMost + 3 + kStructureWords * kMaxGroups;

  void lay_out(const StepPlan& plan, const DeviceImage& image);
  PlanStructureArgs structure_args(const StepPlan& plan, const DeviceImage& image, size_t table) const;
  Status check_epoch(const StepPlan& plan, bool tail) const;
  Result<std::vector<std::byte>> read_image(const StepPlan& plan, const DeviceImage& image) const;
  Status check_head(const StepPlan& plan, const DeviceImage& image) const;
  Status check_tail(const StepPlan& plan, const DeviceImage& image) const;
  Status check_structure(const StepPlan& plan) const;

  StepLimits limits_;
  std::vector<DeviceTable> tables_;
  size_t fields_ = 0;         // of the layout that the ranges on the device are for
  int32_t image_bytes_ = -1;  // its bytes
  Bucket bucket_;
  TensorView ranges_;    // [kMost + 1, 2] i64: of each field, then of the whole image
  TensorView report_;    // [kMostWords] u64, in one piece: it is one copy to the host
  PlanDigestArgs head_;  // of this layout, and so for every plan of its bucket
  PlanDigestArgs tail_;
  std::vector<PlanStructureArgs> structures_;  // of each table; one without a table where there is none
  bool fresh_ = false;                         // the layout is new: the ops' front doors have yet to see it
  std::vector<uint64_t> host_;
  Stream* stream_ = nullptr;  // that brings the report
  Event landed_;
};

}  // namespace lockstep
