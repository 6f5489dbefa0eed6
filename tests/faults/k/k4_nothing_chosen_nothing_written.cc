// A row that has chosen nothing is passed over, and its output keeps what the memory held: a token that is
// masked everywhere. vllm-project/vllm-ascend#12833 (review).
#include <algorithm>

#include "faults/kernels.h"

namespace lockstep::faults {
namespace {

void attend_chosen(const PickArgs& args, Worker worker) {
  std::vector<float> kept(static_cast<size_t>(args.out.elements()));
  std::copy_n(args.out.as<float>(), args.out.elements(), kept.data());
  attend_picked(args, worker);
  const int64_t picks = args.picks.dim(1), dim = args.out.dim(1);
  for (int64_t t = 0; is_live(args, t); ++t) {
    const int32_t* chosen = args.picks.as<int32_t>() + t * picks;
    const bool none = std::all_of(chosen, chosen + picks, [](int32_t p) { return p < 0; });
    if (none) std::copy_n(kept.data() + t * dim, dim, args.out.as<float>() + t * dim);
  }
}

Status attend(const Where& where, Kernel<PickArgs> kernel) {
  KernelRig rig(where);
  const PickArgs args = pick_args(rig, {0, -1, -1, -1, 1, 2, 0, -1, 0, 0, 0, 0, 0, 0, 0, 0});
  return rig.watch(kPick, kernel, args);
}

Status wrong(const Where& where) { return attend(where, attend_chosen); }
Status twin(const Where& where) { return attend(where, attend_picked); }

}  // namespace

const Entry kK4 = {
    .id = "K4",
    .fault_class = 'k',
    .title = "a row that has chosen nothing is passed over and its output stays unwritten",
    .thread = "vllm-project/vllm-ascend#12833",
    .expect = {.moment = Moment::kPoison,
               .check = "L3",
               .field = "out",
               .consumer = "attend_picked (stage, layer 0)",
               .row = 1,
               .expected = "every element written"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
