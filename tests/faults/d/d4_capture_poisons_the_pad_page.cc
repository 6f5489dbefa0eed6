// Capture ran with tables of zeros and left NaN in page 0. A sparse kernel clamps ids of no page to 0 and
// relies on the mask of the softmax: the weight is 0, but 0 times NaN is NaN. All modes were garbled, eager
// was right. vllm-project/vllm#57156, #57158.
#include <algorithm>

#include "faults/kernels.h"

namespace lockstep::faults {
namespace {

// Weight 0 for what is no pick, and the value of page 0 under it.
void attend_clamped(const PickArgs& args, Worker /*worker*/) {
  const int64_t picks = args.picks.dim(1), dim = args.out.dim(1), tokens = args.cache.page_tokens;
  for (int64_t t = 0; t < args.out.dim(0); ++t) {
    float* out = args.out.as<float>() + t * dim;
    std::fill_n(out, dim, 0.0f);
    if (!is_live(args, t)) continue;
    const int32_t* chosen = args.picks.as<int32_t>() + t * picks;
    const auto count =
        static_cast<float>(std::count_if(chosen, chosen + picks, [](int32_t p) { return p >= 0; }));
    for (int64_t j = 0; j < picks; ++j) {
      const bool masked = chosen[j] < 0;
      const int32_t page = masked ? 0 : pages_of(args, t)[chosen[j] / tokens];
      const float* value = value_at(args, page, std::max(chosen[j], 0) % tokens);
      const float weight = masked ? 0.0f : 1.0f / count;
      for (int64_t d = 0; d < dim; ++d) out[d] += weight * value[d];
    }
  }
}

Status attend(const Where& where, Kernel<PickArgs> kernel) {
  KernelRig rig(where);
  const PickArgs args = pick_args(rig, {0, -1, 0, 1, 1, 2, 0, -1, 0, 0, 0, 0, 0, 0, 0, 0});
  return rig.watch(kPick, kernel, args);
}

Status wrong(const Where& where) { return attend(where, attend_clamped); }
Status twin(const Where& where) { return attend(where, attend_picked); }

}  // namespace

const Entry kD4 = {
    .id = "D4",
    .fault_class = 'd',
    .title =
        "ids of no page are clamped to page 0, which capture has filled with NaN, and masked by weights of 0",
    .thread = "vllm-project/vllm#57156",
    .expect = {.moment = Moment::kPoison, .check = "N1", .field = "out", .row = 0, .found = "nan"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
