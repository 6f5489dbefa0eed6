// The mask marks an id of -1 as invalid, but the loads of keys and values use the id all the same: the slot
// before the sequence's first. What lies there enters with weight 0, and 0 times NaN is NaN.
// NVIDIA/Megatron-LM#3674 (review).
#include <algorithm>

#include "faults/kernels.h"

namespace lockstep::faults {
namespace {

void attend_unguarded(const PickArgs& args, Worker /*worker*/) {
  const int64_t picks = args.picks.dim(1), dim = args.out.dim(1), tokens = args.cache.page_tokens;
  for (int64_t t = 0; t < args.out.dim(0); ++t) {
    float* out = args.out.as<float>() + t * dim;
    std::fill_n(out, dim, 0.0f);
    if (!is_live(args, t)) continue;
    const int32_t* chosen = args.picks.as<int32_t>() + t * picks;
    const auto count =
        static_cast<float>(std::count_if(chosen, chosen + picks, [](int32_t p) { return p >= 0; }));
    for (int64_t j = 0; j < picks; ++j) {
      const float* value = value_at(args, pages_of(args, t)[chosen[j] / tokens], chosen[j] % tokens);
      const float weight = chosen[j] < 0 ? 0.0f : 1.0f / count;
      for (int64_t d = 0; d < dim; ++d) out[d] += weight * value[d];
    }
  }
}

Status attend(const Where& where, Kernel<PickArgs> kernel) {
  KernelRig rig(where);
  const PickArgs args = pick_args(rig, {0, 1, 0, -1, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0});
  return rig.watch(kPick, kernel, args);
}

Status wrong(const Where& where) { return attend(where, attend_unguarded); }
Status twin(const Where& where) { return attend(where, attend_picked); }

}  // namespace

const Entry kK5 = {
    .id = "K5",
    .fault_class = 'k',
    .title = "an id of -1 is loaded through before the mask says that it is none",
    .thread = "NVIDIA/Megatron-LM#3674",
    .expect = {.moment = Moment::kPoison, .check = "N1", .field = "out", .row = 1, .found = "nan"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
