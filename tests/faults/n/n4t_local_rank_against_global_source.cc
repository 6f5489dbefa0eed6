// Two replicas of four ranks each. In the second one the source is global rank 4, local rank 0; the
// broadcast compared 0..3 with 4, and the source took itself for a receiver. Requests were dropped or
// stalled. lightseekorg/tokenspeed#786.
#include <vector>

#include "contract/agreement.h"
#include "faults/entries.h"

namespace lockstep::faults {
namespace {

constexpr int32_t kReplica = 1, kTensorRanks = 4;
constexpr int32_t kSource = kReplica * kTensorRanks;  // as a global rank

Status broadcast(bool by_global_rank) {
  std::vector<RankFacts> ranks;
  for (int32_t local = 0; local < kTensorRanks; ++local) {
    const int32_t global = kReplica * kTensorRanks + local;
    RankFacts facts{.rank = global};
    const bool source = (by_global_rank ? global : local) == kSource;
    facts.add(CollectiveFact{.op = "broadcast",
                             .group = "tp",
                             .dtype = DType::kI32,
                             .count = 64,
                             .role = source ? Role::kSends : Role::kReceives});
    ranks.push_back(facts);
  }
  return agree(ranks, RankGroup::kTensor);
}

Status wrong() { return broadcast(false); }
Status twin() { return broadcast(true); }

}  // namespace

const Entry kN4t = {
    .id = "N4t",
    .fault_class = 'n',
    .title = "a broadcast compares a local rank with a global source, and nobody sends",
    .thread = "lightseekorg/tokenspeed#786",
    .expect = {.moment = Moment::kGroup,
               .check = "G1",
               .field = "collectives[0]",
               .expected = "one rank that sends",
               .found = "broadcast that 0 ranks send"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
