// The cache's layout changed from [blocks, 2, page, heads, dim] to [blocks, heads, page, 2 dim], of equal
// size. One connector that moves pages between processes kept the old one and corrupts in silence, another
// fails aloud. Both sides say here how their pages lie, before anything moves. ai-dynamo/dynamo#14416.
#include "base/digest.h"
#include "contract/agreement.h"
#include "faults/entries.h"
#include "kernels/kv_cache/kv_layout.h"

namespace lockstep::faults {
namespace {

// Which layout a side's pages have, as one number.
int64_t layout_fact(const KvLayout& layout) {
  const std::string id = id_of(layout);
  return static_cast<int64_t>(digest_bytes(id.data(), id.size()));
}

Status connect(const KvLayout& engine, const KvLayout& connector) {
  RankFacts sides[] = {{.rank = 0}, {.rank = 1}};
  sides[0].add(CapacityFact{.name = "kv_layout", .value = layout_fact(engine)});
  sides[1].add(CapacityFact{.name = "kv_layout", .value = layout_fact(connector)});
  return agree(sides, RankGroup::kData);
}

constexpr KvLayout kBefore{.planes = KvPlanes::kInterleaved, .order = KvOrder::kTokenMajor};
constexpr KvLayout kNow{.planes = KvPlanes::kInterleaved, .order = KvOrder::kHeadMajor};

Status wrong() { return connect(kNow, kBefore); }
Status twin() { return connect(kNow, kNow); }

}  // namespace

const Entry kE5 = {
    .id = "E5",
    .fault_class = 'e',
    .title = "the engine's cache layout changed, and the other side reads pages by the old one",
    .thread = "ai-dynamo/dynamo#14416",
    .expect = {.moment = Moment::kGroup, .check = "G1", .field = "kv_layout", .found = "on rank 1"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
