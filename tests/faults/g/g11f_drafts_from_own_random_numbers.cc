// Each rank drew draft tokens from a random stream of its own. The streams drifted apart, the decoders'
// inputs and shapes with them, and a collective crashed. The first cure sent rank 0's tokens around under
// overlap only, the second always. xLLM-AI/xllm#1971, #1977.
#include <random>
#include <vector>

#include "contract/agreement.h"
#include "faults/entries.h"

namespace lockstep::faults {
namespace {

std::vector<int32_t> draw(uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<int32_t> tokens;
  for (int i = 0; i < 4; ++i) tokens.push_back(static_cast<int32_t>(random() % 1000));
  return tokens;
}

Status step(bool from_rank_0) {
  std::vector<RankFacts> ranks;
  for (int32_t rank = 0; rank < 2; ++rank) {
    const std::vector<int32_t> tokens = draw(from_rank_0 ? 1 : 1 + static_cast<uint64_t>(rank));
    ranks.push_back({.rank = rank, .sampled_tokens = digest_span(std::span<const int32_t>(tokens))});
  }
  return agree(ranks, RankGroup::kTensor);
}

Status wrong() { return step(false); }
Status twin() { return step(true); }

}  // namespace

const Entry kG11f = {
    .id = "G11f",
    .fault_class = 'g',
    .title = "the ranks of one model draw different draft tokens",
    .thread = "xLLM-AI/xllm#1971",
    .expect = {.moment = Moment::kGroup, .check = "G1", .field = "sampled_tokens", .found = "on rank 1"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
