// A planner cut its index buffer to the blocks that were live, so the slice had another size at each replay,
// while the kernel of the graph went on with the one of the capture. xLLM-AI/xllm#888.
#include <algorithm>

#include "faults/consumers.h"
#include "faults/entries.h"
#include "plan/step_plan.h"

namespace lockstep::faults {
namespace {

constexpr ConsumerSpec kSpec = sums_named("block_attention");

// Sums over as many blocks as the plan of the host says: those that are live, or all that there may be.
class BlockAttention final : public Sums {
 public:
  BlockAttention(Workbench& bench, bool live_only) : Sums(bench, kSpec), live_only_(live_only) {}

 protected:
  Status bind(const Binder& binder, SumArgs& args) const override {
    LS_TRY(Sums::bind(binder, args));
    int64_t longest = 0;
    for (const TokenCount length : binder.plan().get(field::seq_lens))
      longest = std::max<int64_t>(longest, (length.get() + kPage - 1) / kPage);
    const int64_t blocks = live_only_ ? longest : kTokens / kPage;
    args.longest = kPage * binder.decide(spec_, "blocks", blocks, DecisionKind::kCount);
    return {};
  }

 private:
  bool live_only_;
};

// The second block begins under the graph.
Status grow(const Where& where, bool live_only) {
  const auto bench = LS_TRY(Workbench::create(where));
  const BlockAttention attention(*bench, live_only);
  const int32_t sequence = LS_TRY(bench->begin(kPage - 1));
  StepPlan plan = LS_TRY(bench->decode({sequence}));
  LS_TRY(bench->capture(plan, attention));
  LS_TRY(bench->run(plan, attention));
  plan = LS_TRY(bench->decode({sequence}));
  return bench->run(plan, attention);
}

Status wrong(const Where& where) { return grow(where, true); }
Status twin(const Where& where) { return grow(where, false); }

}  // namespace

const Entry kA11b = {
    .id = "A11b",
    .fault_class = 'a',
    .title = "an index buffer is cut to the live blocks, whose number a graph has frozen",
    .thread = "xLLM-AI/xllm#888",
    .expect = {.moment = Moment::kReplay,
               .check = "R7",
               .field = "blocks",
               .consumer = "block_attention",
               .expected = "1, as captured",
               .found = "2"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
