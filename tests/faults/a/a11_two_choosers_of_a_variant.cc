// In graph mode the planner always planned decode for the tensor-core kernel, while the layer chose its
// kernel by the ratio of heads and the dtype: the plan's layout was one thing, what the kernel decoded
// another. xLLM-AI/xllm#880, #888.
#include "faults/consumers.h"
#include "faults/entries.h"

namespace lockstep::faults {
namespace {

constexpr ConsumerSpec kTensorCores = sums_named("tensor_core_decode");
constexpr ConsumerSpec kCudaCores = sums_named("cuda_core_decode");
constexpr int32_t kHeadsPerKvHead = 2;  // below 4: not for tensor cores

const ConsumerSpec& choose() { return kHeadsPerKvHead >= 4 ? kTensorCores : kCudaCores; }

// Plans for one variant and runs another.
class Decode final : public Sums {
 public:
  Decode(Workbench& bench, const ConsumerSpec& planned) : Sums(bench, planned) {}
  Status enqueue(const PreparedStep& step, const Launcher& on) const override {
    const SumArgs& args = *LS_TRY(step.get<SumArgs>(choose()));
    return run(args, on);
  }
};

Status decode(const Where& where, const ConsumerSpec& planned) {
  const auto bench = LS_TRY(Workbench::create(where));
  const Decode program(*bench, planned);
  const int32_t first = LS_TRY(bench->begin(20)), second = LS_TRY(bench->begin(30));
  StepPlan plan = LS_TRY(bench->decode({first}));
  LS_TRY(bench->capture(plan, program));
  LS_TRY(bench->run(plan, program));
  plan = LS_TRY(bench->decode({first, second}));
  return bench->run(plan, program);
}

Status wrong(const Where& where) { return decode(where, kTensorCores); }
Status twin(const Where& where) { return decode(where, choose()); }

}  // namespace

const Entry kA11 = {
    .id = "A11",
    .fault_class = 'a',
    .title = "planner and layer choose the kernel variant by different rules",
    .thread = "xLLM-AI/xllm#880",
    .expect = {.moment = Moment::kLaunch,
               .check = "L2",
               .field = "launch",
               .consumer = "cuda_core_decode",
               .expected = "tensor_core_decode"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
