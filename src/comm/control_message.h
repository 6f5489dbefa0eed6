// What the control threads of ranks tell each other: signs of life, and the end of everything.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/status.h"
#include "comm/ledger.h"
#include "tensor/dtype.h"

namespace lockstep {

// What a rank does, as it says itself. Only within a step can it be stuck: a rank that loads, waits for
// requests, or waits for whoever reads its output takes the time that takes.
enum class RankPhase : uint8_t { kStarting, kIdle, kPrefill, kDecode, kReplay, kLeft };
std::string_view name_of(RankPhase phase);

// One collective of a rank's ledger.
struct BeatEntry {
  uint64_t sequence = 0;
  uint64_t epoch = 0;
  int64_t count = 0;
  DType dtype = DType::kF32;
  std::array<char, 16> op{};     // ends with a zero byte; longer names are cut
  std::array<char, 12> group{};  // likewise
  uint64_t number = 0;           // in the group, from 1
  std::array<char, 20> stage{};  // as op
  int32_t layer = -1;
  bool finished = false;
};

// A sign of life. Beyond that it says how far the rank is: as long as nothing here changes, it has not moved.
struct Beat {
  int32_t rank = 0;
  RankPhase phase = RankPhase::kStarting;
  uint64_t epoch = 0;
  uint64_t entered = 0;  // collectives so far
  uint64_t work = 0;     // launches done, and whatever else counts as getting on
  bool inside = false;   // in the newest collective
  uint32_t entries = 0;
  std::array<BeatEntry, 4> last{};  // [entries] oldest first
};
// The part of a beat that the ledger knows.
void add_ledger(const Ledger& ledger, Beat& beat);
// "tp all_gather f32 2048 at layer 3 moe_sum"
std::string name_of(const BeatEntry& entry);
// "tp all_gather f32 2048 at layer 3 moe_sum (#103)", with the number it has in its group.
std::string text_of(const BeatEntry& entry);

// The end: why the mesh is closed, and what to show to whoever looks after the ranks.
struct Notice {
  int32_t from = 0;
  Status status;       // never ok
  std::string report;  // lines; empty: the status says it all
};

using ControlMessage = std::variant<Beat, Notice>;
std::vector<std::byte> encode(const ControlMessage& message);
// Errors: kInternal for bytes that no rank of this build has sent.
Result<ControlMessage> decode(std::span<const std::byte> bytes);

}  // namespace lockstep
