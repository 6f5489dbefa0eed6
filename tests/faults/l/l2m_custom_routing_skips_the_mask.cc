// A model's own routing function returned before the mask of pad rows was applied. Pad rows are all the same,
// so they all chose the same experts: counts were skewed and per-expert buffers overflowed.
// sgl-project/sglang#31838.
#include <algorithm>

#include "faults/kernels.h"
#include "kernels/moe/moe.h"

namespace lockstep::faults {
namespace {

constexpr int64_t kExperts = 4;

void route(const MoeRouteArgs& args, bool mask) {
  for (int64_t t = 0; t < args.logits.dim(0); ++t) {
    const float* logits = args.logits.as<float>() + t * kExperts;
    const bool pad = t >= args.num_rows->get();
    args.expert_ids.as<int32_t>()[t] =
        mask && pad ? -1 : static_cast<int32_t>(std::max_element(logits, logits + kExperts) - logits);
    args.expert_weights.as<float>()[t] = mask && pad ? 0.0f : 1.0f;
  }
}
void route_everything(const MoeRouteArgs& args, Worker /*worker*/) { route(args, false); }
void route_live(const MoeRouteArgs& args, Worker /*worker*/) { route(args, true); }

Status step(const Where& where, Kernel<MoeRouteArgs> kernel) {
  KernelRig rig(where);
  rig.step({{0, 3}, {1, 1}}, bucket(12, 8, 2));
  const MoeRouteArgs args{.logits = rig.numbers("logits", {12, kExperts}),
                          .expert_ids = rig.memory("expert_ids", DType::kI32, {12, 1}),
                          .expert_weights = rig.memory("expert_weights", DType::kF32, {12, 1}),
                          .num_rows = rig.scalar(field::num_rows)};
  rig.fill(args.logits.rows(4, 8), 0.0f);
  return rig.watch(kMoeRouteSpec, kernel, args);
}

Status wrong(const Where& where) { return step(where, route_everything); }
Status twin(const Where& where) { return step(where, route_live); }

}  // namespace

const Entry kL2m = {
    .id = "L2m",
    .fault_class = 'l',
    .title = "custom routing returns before pad rows are masked, and all of them choose the same experts",
    .thread = "sgl-project/sglang#31838",
    .expect = {.moment = Moment::kPoison,
               .check = "L3",
               .field = "expert_ids",
               .row = 4,
               .expected = "-1 in rows of nobody",
               .found = "0"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
