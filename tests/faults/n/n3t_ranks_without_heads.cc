// A configuration was allowed whose split was not served: two heads over four ranks are [1, 1, 0, 0], and
// every rank sized its receive buffer like the first. hiyouga/LlamaFactory#10794,
// huggingface/transformers#48307.
#include <vector>

#include "faults/entries.h"
#include "plan/head_shares.h"

namespace lockstep::faults {
namespace {

constexpr int32_t kHeads = 2, kHeadSize = 64, kRanks = 4;

Status check(std::span<const HeadShare> shares, int32_t copies) {
  return check_head_map(
      {.name = "kv_heads", .heads = kHeads, .head_size = kHeadSize, .copies = copies, .shares = shares});
}

Status wrong() {
  std::vector<HeadShare> shares;
  for (int32_t rank = 0; rank < kRanks; ++rank)
    shares.push_back({rank, int64_t{rank} * kHeadSize, rank < kHeads ? kHeadSize : 0});
  return check(shares, 1);
}

Status twin() {
  std::vector<HeadShare> shares;
  for (int32_t rank = 0; rank < kRanks; ++rank)
    shares.push_back({rank, int64_t{rank * kHeads / kRanks} * kHeadSize, kHeadSize});
  return check(shares, kRanks / kHeads);
}

}  // namespace

const Entry kN3t = {
    .id = "N3t",
    .fault_class = 'n',
    .title = "2 heads over 4 ranks are split 1, 1, 0, 0",
    .thread = "hiyouga/LlamaFactory#10794",
    .expect = {.moment = Moment::kBind,
               .check = "P7",
               .field = "kv_heads",
               .row = 2,
               .expected = "at least one head in every rank",
               .found = "none in rank 2"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
