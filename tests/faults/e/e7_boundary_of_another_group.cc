// Prompts were cut at multiples of the global block size, 816, and a state was published as that of the
// recurrent group's block, which has 1648 tokens. Whoever hits the prefix goes on from a state that is 16
// tokens short. vllm-project/vllm#54076.
#include "faults/entries.h"
#include "faults/plans.h"

namespace lockstep::faults {
namespace {

constexpr int32_t kGlobalBlock = 816, kRecurrentBlock = 1648;
constexpr PageId kPublished(200);

// A prompt of one recurrent block is run in cuts, its state is published at the last one, and a second
// request with the same prompt goes on from there.
Status publish_and_hit(int32_t cut) {
  Plans plans;
  const int32_t last_cut = kRecurrentBlock / cut * cut;
  plans.run_right({{0, last_cut}});
  plans.run_right({}, {.bucket = {}, .state_copies = {{PageId(1), kPublished}}});
  plans.set_length(1, kRecurrentBlock);
  StepPlan plan = plans.next({{1, 4}}, {.bucket = {}, .state_copies = {{kPublished, PageId(2)}}});
  return plans.run(plan);
}

Status wrong() { return publish_and_hit(kGlobalBlock); }
Status twin() { return publish_and_hit(kRecurrentBlock); }

}  // namespace

const Entry kE7 = {
    .id = "E7",
    .fault_class = 'e',
    .title = "a state is published under a boundary of another group's block size",
    .thread = "vllm-project/vllm#54076",
    .expect = {.moment = Moment::kPlan,
               .check = "P5",
               .field = "state_read_slot",
               .row = 0,
               .expected = "the state after 1648 tokens",
               .found = "the state after 1632 tokens"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
