// A norm's shard was its size divided by the number of ranks: with 8 key heads over 16 ranks half a head,
// and output that repeated itself. sgl-project/sglang#20967.
#include <vector>

#include "faults/entries.h"
#include "plan/head_shares.h"

namespace lockstep::faults {
namespace {

constexpr int32_t kHeads = 8, kHeadSize = 128, kRanks = 16;

Status check(std::span<const HeadShare> shares, int32_t copies) {
  return check_head_map(
      {.name = "kv_heads", .heads = kHeads, .head_size = kHeadSize, .copies = copies, .shares = shares});
}

Status wrong() {
  std::vector<HeadShare> shares;
  const int64_t columns = kHeads * kHeadSize / kRanks;
  for (int32_t rank = 0; rank < kRanks; ++rank) shares.push_back({rank, rank * columns, columns});
  return check(shares, kRanks / kHeads);
}

Status twin() {
  std::vector<HeadShare> shares;
  for (int32_t rank = 0; rank < kRanks; ++rank)
    shares.push_back({rank, int64_t{rank * kHeads / kRanks} * kHeadSize, kHeadSize});
  return check(shares, kRanks / kHeads);
}

}  // namespace

const Entry kN1t = {
    .id = "N1t",
    .fault_class = 'n',
    .title = "8 heads over 16 ranks are half a head each",
    .thread = "sgl-project/sglang#20967",
    .expect = {.moment = Moment::kBind,
               .check = "P7",
               .field = "kv_heads",
               .row = 0,
               .expected = "whole heads of 128 columns",
               .found = "columns 0..63 in rank 0"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
