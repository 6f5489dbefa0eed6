// StepReport: what the device says it read. Before the step's first launch a small kernel computes the digest
// of every plan field from the bytes that the kernels will read; after its last one another computes that of
// the whole image, and a third checks the structure of those bytes. The host compares all of it with the plan
// before it accepts a token. Two steps may be under way: the reports of both are kept.
//
// At the end a processor digests the whole image in one go. A device, which has many slow threads, digests
// the fields and what lies behind each one by one; so does whoever overlaps steps, since a field has a name
// then even when the image of the next step has taken its place.
#pragma once

#include <array>
#include <vector>

#include "base/digest.h"
#include "base/fault.h"
#include "contract/device_image.h"
#include "device/arena.h"
#include "device/landing.h"
#include "device/stream.h"
#include "kernels/common/launcher.h"
#include "kernels/plan_check/plan_check.h"
#include "plan/step_plan.h"

namespace lockstep {

class StagingRing;

// The page table of a paged group, as the device holds it.
struct DeviceTable {
  GroupId group;
  TensorView pages;  // [R, M] i32
};

// Tables that are verified each step, of one group, beside those of the steps before and after.
inline constexpr int32_t kTablesPerStep = 4;

struct StepReportOptions {
  Device* device = nullptr;  // whose stream brings the report; null: the CPU's
  bool overlapped = false;   // two steps may be under way
};

// Thread: one owner. Cost: two passes over the image on one thread.
class StepReport {
 public:
  static int64_t footprint();
  static Result<StepReport> create(const StepLimits& limits, Arena& arena,
                                   const StepReportOptions& options = {});

  // Tables whose rows are verified, a share of them each step.
  void set_tables(std::vector<DeviceTable> tables) {
    tables_ = std::move(tables);
    image_bytes_ = -1;  // lay out anew
  }

  // What lies right behind the report on the device comes with it from now on, in the same copy: what the
  // step brings. Where it is on the host, for a step that download() was given and that the stream has
  // passed. Errors: kResourceExhausted without memory on the host.
  Status bring_along(const TensorView& outcome);
  bool adjoins(const TensorView& outcome) const;  // whether it lies there
  bool brings_along() const { return along_bytes_ > 0; }
  const std::byte* brought(const StepPlan& plan) const;

  // Enqueue, in this order: before the step, after it, and the way back to the host. At most one step may be
  // under way that check() has still to hold to its plan. A step without a report needs the last alone.
  Status head(const StepPlan& plan, const DeviceImage& image, StagingRing& staging, const Launcher& on);
  Status tail(const StepPlan& plan, bool all_tables, const Launcher& on);
  Status download(const StepPlan& plan, Stream& stream);

  // Holds the report to the plan; the stream has passed download().
  // Errors: kInternal, with a fault of moment kCommit: the stream has not passed download() (L5); the head
  // saw another step (R3) or other bytes of a field (R3); the tail saw other bytes than the head: a kernel
  // wrote them (R4); the structure does not hold on the device (R6). `image` is looked at to say which entry
  // it is, unless the next step has it already.
  Status check(const StepPlan& plan, const DeviceImage& image);

  // Of the step that check() was given last.
  uint64_t head_epoch() const { return host()[0]; }
  std::span<const Digest> head_digests() const { return {host() + 1, fields_}; }
  Digest tail_digest() const { return tail_digest_; }  // the plan's, if the tail saw just that

 private:
  // The report, in words: the head's epoch and digests, the tail's epoch and digests, 4 words of structure
  // for each table. The tail's are those of the fields, then of the zeros behind each, or that of the image.
  // Every bucket has as many.
  size_t tail_at() const { return fields_ + 1; }
  size_t tail_pieces() const { return by_piece_ ? 2 * fields_ : 1; }
  size_t structure_at() const { return tail_at() + 1 + tail_pieces(); }
  static constexpr int64_t kStructureWords = 4;
  static constexpr int64_t kMost = int64_t{kNumFields} * kMaxGroups;
  // Whole cache lines: what an arena hands out next lies right behind.
  static constexpr int64_t kMostWords = (3 * kMost + 2 + kStructureWords * kMaxGroups + 7) / 8 * 8;
  static constexpr size_t kAtOnce = 2;  // steps whose reports are kept
  // Where the report of one step lands.
  struct Arrival {
    uint64_t epoch = 0;
    Event landed;
  };
  size_t arrival_of(const StepPlan& plan) const;
  int64_t arrival_bytes() const { return kMostWords * int64_t{sizeof(uint64_t)} + along_bytes_; }
  uint64_t* host(size_t arrival) const {
    if (in_place_) return report_.as<uint64_t>();
    return landing_.at<uint64_t>(static_cast<int64_t>(arrival) * arrival_bytes());
  }
  const uint64_t* host() const { return host(checked_); }

  void lay_out(const StepPlan& plan, const DeviceImage& image);
  void fetch_ahead(const StepPlan& plan) const;
  PlanStructureArgs structure_args(const StepPlan& plan, const DeviceImage& image, size_t table) const;
  Status check_epoch(const StepPlan& plan, bool tail) const;
  Result<std::vector<std::byte>> read_image(const StepPlan& plan, const DeviceImage& image) const;
  Status check_head(const StepPlan& plan, const DeviceImage& image) const;
  Status check_tail(const StepPlan& plan, const DeviceImage& image);
  size_t changed_piece(const StepPlan& plan) const;
  Status check_structure(const StepPlan& plan) const;

  StepLimits limits_;
  std::vector<DeviceTable> tables_;
  size_t fields_ = 0;         // of the layout that the ranges on the device are for
  int32_t image_bytes_ = -1;  // its bytes
  Bucket bucket_;
  TensorView ranges_;  // [2 kMost, 2] i64: of each field, then of what lies behind each or of the whole image
  TensorView report_;  // [kMostWords] u64, in one piece: it is one copy to the host
  PlanDigestArgs head_;  // of this layout, and so for every plan of its bucket
  PlanDigestArgs tail_;
  std::vector<PlanStructureArgs> structures_;  // of each table; one without a table where there is none
  bool fresh_ = false;                         // the layout is new: the ops' front doors have yet to see it
  bool by_piece_ = false;                      // the tail
  bool in_place_ = false;                      // the host reads the report where it is written
  Digest tail_digest_ = 0;
  std::array<Digest, ImageLayout::kAlignment> zeros_{};  // of so many bytes
  Device* device_ = nullptr;
  int64_t along_bytes_ = 0;
  Landing landing_;  // [kAtOnce]: kMostWords u64, what comes along
  std::array<Arrival, kAtOnce> arrivals_;
  size_t newest_ = 0;         // of arrivals_
  size_t checked_ = 0;        // likewise
  Stream* stream_ = nullptr;  // that brings the report
};

}  // namespace lockstep
