// Workers aligned the interleave to 1536, the scheduler's copy stayed as configured; the names under
// which pages were stored and looked up differed. 120 GB were stored per device, none was ever read.
// LMCache/LMCache#4936.
#include "contract/agreement.h"
#include "faults/entries.h"

namespace lockstep::faults {
namespace {

constexpr int64_t kConfigured = 1200, kAlignment = 512;

int64_t aligned(int64_t interleave) { return (interleave + kAlignment - 1) / kAlignment * kAlignment; }

Status start(int64_t scheduler, int64_t worker) {
  RankFacts roles[] = {{.rank = 0}, {.rank = 1}};
  roles[0].add(CapacityFact{.name = "cp_interleave", .value = scheduler});
  roles[1].add(CapacityFact{.name = "cp_interleave", .value = worker});
  return agree(roles, RankGroup::kTensor);
}

Status wrong() { return start(kConfigured, aligned(kConfigured)); }
Status twin() { return start(aligned(kConfigured), aligned(kConfigured)); }

}  // namespace

const Entry kF5 = {
    .id = "F5",
    .fault_class = 'f',
    .title = "scheduler and worker align the cache interleave differently",
    .thread = "LMCache/LMCache#4936",
    .expect = {.moment = Moment::kGroup,
               .check = "G1",
               .field = "cp_interleave",
               .expected = "1200, as on rank 0",
               .found = "1536 on rank 1"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
