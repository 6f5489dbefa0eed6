// A tempting half of a repair: masked logits of -50000 become -49984 in half precision, no longer equal the
// sentinel, and a row that is masked everywhere counts as live: it divides by a sum of 0. Pad rows are such
// rows. flashinfer-ai/flashinfer#4298.
#include <algorithm>

#include "faults/kernels.h"

namespace lockstep::faults {
namespace {

constexpr float kMasked = -50000.0f;

void attend(const PickArgs& args, bool half) {
  const int64_t picks = args.picks.dim(1), dim = args.out.dim(1), tokens = args.cache.page_tokens;
  for (int64_t t = 0; t < args.out.dim(0); ++t) {
    float* out = args.out.as<float>() + t * dim;
    std::fill_n(out, dim, 0.0f);
    const float masked = half ? static_cast<float>(Float16(kMasked)) : kMasked;
    float largest = masked, sum = 0;
    for (int64_t j = 0; j < picks && is_live(args, t); ++j) {
      const int32_t position = args.picks.as<int32_t>()[t * picks + j];
      if (position < 0) continue;
      largest = std::max(largest, 0.0f);
      const float* value = value_at(args, pages_of(args, t)[position / tokens], position % tokens);
      for (int64_t d = 0; d < dim; ++d) out[d] += value[d];
      sum += 1.0f;
    }
    const bool nothing = largest == kMasked;
    for (int64_t d = 0; d < dim && !nothing; ++d) out[d] /= sum;
  }
}
void attend_half(const PickArgs& args, Worker /*worker*/) { attend(args, true); }
void attend_single(const PickArgs& args, Worker /*worker*/) { attend(args, false); }

Status step(const Where& where, Kernel<PickArgs> kernel) {
  KernelRig rig(where);
  const PickArgs args = pick_args(rig, {0, 1, 0, -1, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0});
  return rig.watch(kPick, kernel, args);
}

Status wrong(const Where& where) { return step(where, attend_half); }
Status twin(const Where& where) { return step(where, attend_single); }

}  // namespace

const Entry kM2 = {
    .id = "M2",
    .fault_class = 'm',
    .title = "the mask's sentinel is rounded in half precision, and rows that see nothing count as live",
    .thread = "flashinfer-ai/flashinfer#4298",
    .expect = {.moment = Moment::kPoison,
               .check = "L3",
               .field = "out",
               .row = 4,
               .expected = "0 in rows of nobody",
               .found = "nan"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
