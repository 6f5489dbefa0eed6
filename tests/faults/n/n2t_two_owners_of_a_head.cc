// With more ranks than key heads, ranks hold the same heads. The transfer let every rank send what it
// holds, as if nobody else held it. The details of the cure were not read. vllm-project/vllm-ascend#3366.
#include <vector>

#include "faults/entries.h"
#include "plan/head_shares.h"

namespace lockstep::faults {
namespace {

constexpr int32_t kHeads = 2, kHeadSize = 64, kRanks = 4, kCopies = kRanks / kHeads;

Status check(std::span<const HeadShare> shares, int32_t copies) {
  return check_head_map(
      {.name = "kv_heads", .heads = kHeads, .head_size = kHeadSize, .copies = copies, .shares = shares});
}

// What reaches the receiver, which wants each head once.
Status transfer(bool one_sender_per_head) {
  std::vector<HeadShare> sent;
  for (int32_t rank = 0; rank < kRanks; ++rank) {
    if (one_sender_per_head && rank % kCopies != 0) continue;
    sent.push_back({rank, int64_t{rank / kCopies} * kHeadSize, kHeadSize});
  }
  return check(sent, 1);
}

Status wrong() { return transfer(false); }
Status twin() { return transfer(true); }

}  // namespace

const Entry kN2t = {
    .id = "N2t",
    .fault_class = 'n',
    .title = "a cache transfer assumes that each head has one owner",
    .thread = "vllm-project/vllm-ascend#3366",
    .expect = {.moment = Moment::kBind,
               .check = "P7",
               .field = "kv_heads",
               .row = 0,
               .expected = "held by 1 of 4 ranks",
               .found = "head 0, held by 2"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
