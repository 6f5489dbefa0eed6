// Exchange: one collective as a member of a group enters it, and the words that all members hear when what
// they enter does not fit together. Fabrics carry exchanges; they add no meaning.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

#include "base/status.h"
#include "comm/ledger.h"
#include "tensor/dtype.h"

namespace lockstep {

// kNothing is what a rank says that has no further one.
enum class Collective : int32_t { kAllGather, kAllToAll, kBroadcast, kNothing };
std::string_view name_of(Collective op);  // static storage

// What a member says about the collective that it enters. Members go on when all have said the same.
struct Call {
  Collective op = Collective::kAllGather;
  int32_t root = -1;  // in the group, of a broadcast; -1: there is none
  DType dtype = DType::kF32;
  int64_t bytes = 0;             // of `send`
  uint64_t number = 0;           // of the collectives of this group, from 1
  int32_t outputs = 0;           // blocks that there is room for: one of each member
  int32_t layer = -1;            // where in the step, as CallSite
  std::array<char, 24> stage{};  // ends with a zero byte; longer names are cut
  uint64_t step = 0;  // epoch, 0: none; for faults alone: who waits for a plan does not know its own

  void place(const CallSite& at);
  std::string where() const { return lockstep::describe(stage.data(), layer); }
  int64_t count() const { return bytes / size_of(dtype); }
  bool operator==(const Call& other) const;  // but for the step
};
static_assert(std::is_trivially_copyable_v<Call> && std::has_unique_object_representations_v<Call>);
std::string describe(const Call& call);  // "all_gather of 128 f32"

// Sizes fit, but for the outputs of a call, and the group has more than one member.
struct Exchange {
  Call call;
  uint64_t turn = 0;  // of the exchanges that the fabric has carried for this group, from 1
  int32_t rank = 0;   // of this member, in the group
  int32_t size = 1;   // of the group
  std::span<const std::byte> send;
  std::span<std::byte> receive;

  // What goes to a member, and where what comes from it lands. Both may be empty. `send` may be that of
  // another member: what it brings for this one is sent(its exchange, this rank).
  std::span<const std::byte> to(int32_t member) const;
  std::span<std::byte> from(int32_t member) const;
  // Puts this member's own share in its place, unless it lies there already.
  void keep_own() const;
};

// A group as faults name it.
struct GroupNames {
  std::string_view name;             // "tp"
  std::span<const int32_t> members;  // ranks in the world
};

// ok when all calls are the same and have room for every member. Else kInternal with a fault (G1), the same
// words on every member: the first rank that says something else than most, and a table of who said what.
Status compare_calls(const GroupNames& group, std::span<const Call> calls);

// kDevice with a fault (G1): who of the group has not come. `missing` are ranks in the world.
Status absence(const GroupNames& group, const Exchange& exchange, std::span<const int32_t> missing,
               std::chrono::milliseconds deadline);

}  // namespace lockstep
