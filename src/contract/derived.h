// Derived fields: what a consumer makes of the plan for its own kernels (ragged page indices, split tables,
// selected pages). Each is a line of its own, written and read through the Binder alone, stamped with the
// step and the bytes it was made from, and held to its rule behind whoever made it.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/digest.h"
#include "base/fault.h"
#include "base/status.h"
#include "device/arena.h"
#include "device/staging.h"
#include "plan/fields.h"
#include "plan/limits.h"

namespace lockstep {

class StepPlan;

// What must hold for the live entries of a derived field, whatever made them. Elements are i32.
enum class DerivedRule : uint8_t {
  kRange,      // low <= entry < high
  kMonotone,   // starts at 0, never falls, and every entry in range
  kPrefixSum,  // kMonotone, and entry i + 1 minus entry i is entry i of `of`
  kUnique,     // kRange, and within one sequence no entry comes twice
  kAscending,  // kRange, and within one piece of `of` every entry is larger than the one before
};

// Who writes the entries.
enum class DerivedMaker : uint8_t {
  kHost,    // prepare(); compared with the reference always
  kDevice,  // a kernel in the graph; held to its rule behind that kernel
};

struct DerivedSpec {
  std::string_view name;  // "kv_indptr"
  DerivedMaker maker = DerivedMaker::kHost;
  Unit unit = Unit::kNone;
  Form form = Form::kPerSequence;
  DerivedRule rule = DerivedRule::kRange;
  int32_t pad_value = 0;             // of entries past the live ones
  std::span<const FieldId> sources;  // of the plan
  // kPrefixSum: the counts; kUnique, kAscending: the offsets that cut the entries into pieces
  const DerivedSpec* of = nullptr;
  // Entries for the largest step of these limits.
  int64_t (*capacity)(const StepLimits& limits) = nullptr;
  // The values that entries may have, from this plan: [low, high).
  struct Range {
    int32_t low = 0;
    int32_t high = 0;
  };
  Range (*range)(const StepLimits& limits, const StepPlan& plan) = nullptr;
  // kAscending: every entry of a piece is below this; null: `range` says all.
  int32_t (*piece_end)(const StepLimits& limits, const StepPlan& plan, int64_t piece) = nullptr;
  // Live entries of this plan, and (kHost) what they must be: the naive way. `out` has live entries.
  int64_t (*live)(const StepLimits& limits, const StepPlan& plan) = nullptr;
  void (*reference)(const StepLimits& limits, const StepPlan& plan, std::span<int32_t> out) = nullptr;
};

// What a derived field was made from.
struct DerivedStamp {
  uint64_t epoch = 0;
  Digest sources = 0;
  int64_t entries = 0;  // of the view that was written
  bool operator==(const DerivedStamp&) const = default;
};

// Where derived fields live: fixed device addresses for the life of the executor. Thread: one owner.
class DerivedFields {
 public:
  DerivedFields() = default;
  // Bytes of arena for `specs`, and the memory.
  static int64_t footprint(std::span<const DerivedSpec* const> specs, const StepLimits& limits);
  static Result<DerivedFields> create(std::span<const DerivedSpec* const> specs, const StepLimits& limits,
                                      Arena& arena);

  struct Entry {
    const DerivedSpec* spec = nullptr;
    TensorView values;  // [capacity] i32, on the device
    DerivedStamp stamp;
    std::vector<int32_t> host;  // kHost: what prepare() wrote, until refresh()
    bool dirty = false;         // host has what the device has not
  };
  Entry* find(const DerivedSpec& spec);

  // Copies what the host has made to the device. Errors: as Stream::copy.
  Status refresh(Stream& stream, StagingRing& staging);
  std::span<Entry> entries() { return entries_; }
  const StepLimits& limits() const { return limits_; }

 private:
  std::vector<Entry> entries_;
  StepLimits limits_;
};

// Digest of the fields that a derived field is made from, as this plan has them.
Digest source_digest(const DerivedSpec& spec, const StepPlan& plan);

// Holds `values` (live entries) of `spec` to its rule; `of` are the live entries of spec.of.
// Errors: kInternal (P3), naming field, entry, expected and found.
struct DerivedCheck {
  std::string_view consumer;
  Moment moment;
  std::span<const int32_t> values;
  std::span<const int32_t> of;
};
Status check_derived(const DerivedSpec& spec, const StepLimits& limits, const StepPlan& plan,
                     const DerivedCheck& check);

}  // namespace lockstep
