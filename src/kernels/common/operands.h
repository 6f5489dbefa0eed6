// What a launch touches in memory, read from the bytes of its Args through its OpSpec. Whoever watches
// launches (contract, graphs, guard) walks operands and needs to know no op.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "device/host_view.h"
#include "device/stream.h"
#include "kernels/kv_cache/kv_view.h"
#include "kernels/linear/packed_weight.h"

namespace lockstep {

// Bytes [begin, end) of memory. Strides may leave gaps inside that are not touched.
struct ByteRange {
  uintptr_t begin = 0;
  uintptr_t end = 0;

  bool empty() const { return begin == end; }
  bool overlaps(const ByteRange& other) const { return begin < other.end && other.begin < end; }
  bool contains(const ByteRange& other) const { return begin <= other.begin && other.end <= end; }
  bool operator==(const ByteRange&) const = default;
};

// What products and sums past 64 bits lead to: a range that lies in no allocation.
inline constexpr ByteRange kEverywhere{0, UINTPTR_MAX};

// One argument that a launch touches. Valid as long as the launch's Args.
struct Operand {
  const OpArg* arg = nullptr;
  TensorView view;                       // kTensor
  const KvView* kv = nullptr;            // kKvCache
  const PackedWeight* weight = nullptr;  // kWeight
  const void* address = nullptr;         // as the launch carries it
  std::array<ByteRange, 2> bytes{};      // from the lowest to the highest byte over all indices
  int32_t num_ranges = 1;                // 2: the keys and the values of a cache

  std::span<const ByteRange> ranges() const { return {bytes.data(), static_cast<size_t>(num_ranges)}; }
  bool reads() const { return arg->access == Access::kRead || arg->access == Access::kReadWrite; }
  bool writes() const { return arg->access == Access::kWrite || arg->access == Access::kReadWrite; }
};

// A launch as faults name it: "paged_attention (attention, layer 3)".
std::string consumer_of(const LaunchRecord& launch);

// One argument of a launch. Nothing for values, for what is absent (no memory), and for what the launch
// carries and does not touch. Cost: no allocation, some ten nanoseconds.
std::optional<Operand> operand_of(const LaunchRecord& launch, const OpArg& arg);

// Calls visit(operand) for each argument that the launch touches, in the order of the spec.
template <typename Visit>
void for_each_operand(const LaunchRecord& launch, Visit&& visit) {
  for (const OpArg& arg : launch.site.spec->args) {
    if (const std::optional<Operand> operand = operand_of(launch, arg)) visit(*operand);
  }
}

// The number behind the address of scalar `name`, as the kernel reads it: "num_rows". Nothing where the op
// has no such scalar or its address is null. `memory` is that of the stream that launches.
std::optional<int64_t> scalar_operand(const LaunchRecord& launch, std::string_view name,
                                      const HostView& memory = {});

// The integer that the launch carries as `name`: "segments". Nothing where the op has no such value of 1, 4
// or 8 bytes.
std::optional<int64_t> value_operand(const LaunchRecord& launch, std::string_view name);

}  // namespace lockstep
