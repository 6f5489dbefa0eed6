// The words of a record: what its entries say of a step, a launch, a row.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/dtype.h"

namespace lockstep {

// Numbers of a record, dense and row-major. Empty bytes: not recorded.
struct RecordTensor {
  DType dtype = DType::kU8;
  std::vector<int64_t> shape;
  std::vector<std::byte> bytes;
  bool operator==(const RecordTensor&) const = default;
};

// How a step reached the device.
enum class RunKind : uint8_t {
  kEager,     // launched one by one
  kCaptured,  // while a graph was recorded
  kReplayed,  // by a graph
  kRefused,   // not at all: the plan was refused
};
enum class Seen : uint8_t { kSeen, kRerun };  // when the fault happened, or by the run after it
enum class LayerKind : uint8_t { kSoftmax, kGatedDelta, kMoe, kDense, kEmbedding, kHead, kOther, kLightning };
enum class Side : uint8_t { kInput, kOutput };
// Of rows. Gathered: of all ranks of a group, side by side, as a collective brought them together; rows r
// times the bucket up belong to its r-th member.
enum class Owner : uint8_t { kLive, kPad, kUnowned, kGathered };
inline constexpr size_t kOwners = 4;
enum class Verdict : uint8_t { kNotRecorded, kYes, kNo };

std::string_view name_of(RunKind run);
std::string_view name_of(Seen seen);
std::string_view name_of(LayerKind kind);
std::string_view name_of(Side side);
std::string_view name_of(Owner owner);
std::string_view name_of(Verdict verdict);

// Where in a step a launch stands.
struct LaunchPlace {
  int32_t rank = 0;
  uint64_t step = 0;
  std::string phase;   // of the step: "prefill"
  int32_t order = 0;   // of the launch within its step, from 0
  int32_t layer = -1;  // -1: outside the layers
  LayerKind layer_kind = LayerKind::kOther;
  std::string stage;        // "attend"
  std::string op;           // "paged_attention"
  bool collective = false;  // ranks meet in it

  static void members(auto& self, auto&& each) {
    each("rank", self.rank);
    each("step", self.step);
    each("phase", self.phase);
    each("order", self.order);
    each("layer", self.layer);
    each("layer_kind", self.layer_kind);
    each("stage", self.stage);
    each("op", self.op);
    each("collective", self.collective);
  }
};

}  // namespace lockstep
