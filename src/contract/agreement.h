// Agreement (G1): what each rank of a group says about its step, and whether that goes together. Compared
// before the first collective of the step, so that a disagreement is a message and not a hang.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

#include "base/digest.h"
#include "base/fault.h"
#include "plan/fields.h"
#include "tensor/dtype.h"

namespace lockstep {

class StepPlan;

// What ties the ranks of a group together, and so what has to be equal.
enum class RankGroup : uint8_t {
  kTensor,   // shares of one forward pass: they run the same plan, byte for byte
  kContext,  // shares of its rows: the same but for what their own rows are. Steps that are not cut: as
             // kTensor
  kData,     // passes over different requests that meet in collectives: epoch, rows of each rank, graph
};
std::string_view name_of(RankGroup group);

enum class Participation : uint8_t { kActiveDecode, kActiveOther, kIdle };
std::string_view name_of(Participation participation);

// A short name in place: facts travel between processes as they lie in memory.
class FactName {
 public:
  FactName() = default;
  // At most 23 characters; the rest is cut off.
  FactName(std::string_view name) {
    std::memcpy(text_.data(), name.data(), std::min(name.size(), text_.size() - 1));
  }
  FactName(const char* name) : FactName(std::string_view(name)) {}
  std::string_view view() const { return text_.data(); }
  bool operator==(const FactName&) const = default;

 private:
  std::array<char, 24> text_{};
};

// Which ranks give a collective its data.
enum class Role : uint8_t {
  kAll,       // every rank gives and takes
  kSends,     // this rank is the one source
  kReceives,  // another rank is
};

// One collective of the step, as one rank means to enter it.
struct CollectiveFact {
  FactName op;     // "all_gather"
  FactName group;  // "ep"
  DType dtype = DType::kF32;
  int64_t count = 0;  // elements of this rank
  Role role = Role::kAll;
  bool any_count = false;  // ranks may bring different counts; else all bring the same
  bool operator==(const CollectiveFact&) const = default;
};

// A size that all ranks must have chosen alike: "dispatch_tokens" = 128.
struct CapacityFact {
  FactName name;
  int64_t value = 0;
  bool operator==(const CapacityFact&) const = default;
};

// Trivially copyable; the same bytes mean the same on every rank of one build.
struct RankFacts {
  static constexpr size_t kCollectives = 32;
  static constexpr size_t kCapacities = 16;

  int32_t rank = 0;
  Participation participation = Participation::kIdle;
  uint64_t graph_key = 0;     // digest of the key of the graph that this step replays; 0: eager
  Digest sampled_tokens = 0;  // of the ids that the step before has drawn; 0: none
  Digest config = 0;          // of everything else that was configured
  std::array<uint64_t, kNumFields> fields{};  // scalars of the plan: their value; other fields: a digest
  int64_t num_collectives = 0;  // of the step; the first kCollectives are listed, all are in the digest
  Digest collectives_digest = 0;
  std::array<CollectiveFact, kCollectives> collectives{};
  int64_t num_capacities = 0;
  std::array<CapacityFact, kCapacities> capacities{};

  uint64_t field(FieldId id) const { return fields[static_cast<size_t>(id)]; }
  void add(const CollectiveFact& collective);
  // Precondition: fewer than kCapacities so far.
  void add(const CapacityFact& capacity);
};
static_assert(std::is_trivially_copyable_v<RankFacts>);

// What a frozen plan says, for its rank.
RankFacts facts_of(const StepPlan& plan, int32_t rank);

// ok, or the first thing that the ranks say differently. A pure function: every rank that has the same facts
// comes to the same words. Expected is what most ranks say, on a tie what the first of them says; the fault
// names the first rank that says something else.
// Errors: kInternal (G1), with disagreement_table() in the message. Cost: O(ranks * fields), and no
// allocation, where they agree.
Status agree(std::span<const RankFacts> facts, RankGroup group);

// Of all that must be equal in such a group: ranks whose digests are equal agree, but for the roles of rooted
// collectives. What ranks compare first, since it is short.
Digest agreement_digest(const RankFacts& facts, RankGroup group);

// Who said what: a line per thing, a column per rank, a mark where ranks differ that must not. Things that
// are the same everywhere are left out, but for what a person looks for first; so are digests that may
// differ.
std::string disagreement_table(std::span<const RankFacts> facts, RankGroup group);

}  // namespace lockstep
