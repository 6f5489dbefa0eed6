// NaN in keys and values past the end of a sequence reached the output: the tile behind the length is masked
// by weights of 0 and multiplied all the same. Cured elsewhere by caches that start as zeros.
// Dao-AILab/flash-attention#1745, deepbeepmeep/Wan2GP#1628.
#include <algorithm>

#include "faults/kernels.h"

namespace lockstep::faults {
namespace {

// The mean of all values up to the row's own position, tile by tile: a tile is a page.
void attend(const PickArgs& args, bool whole_tiles) {
  const int64_t dim = args.out.dim(1), tokens = args.cache.page_tokens;
  const int32_t* starts = args.query_start_loc.as<int32_t>();
  for (int64_t t = 0, s = 0; t < args.out.dim(0); ++t) {
    float* out = args.out.as<float>() + t * dim;
    std::fill_n(out, dim, 0.0f);
    if (!is_live(args, t)) continue;
    while (t >= starts[s + 1]) ++s;
    const int64_t seen = t - starts[s] + 1;
    const int64_t loaded = whole_tiles ? (seen + tokens - 1) / tokens * tokens : seen;
    for (int64_t i = 0; i < loaded; ++i) {
      const float weight = i < seen ? 1.0f / static_cast<float>(seen) : 0.0f;
      const float* value = value_at(args, pages_of(args, t)[i / tokens], i % tokens);
      for (int64_t d = 0; d < dim; ++d) out[d] += weight * value[d];
    }
  }
}
void attend_tiles(const PickArgs& args, Worker /*worker*/) { attend(args, true); }
void attend_seen(const PickArgs& args, Worker /*worker*/) { attend(args, false); }

Status step(const Where& where, Kernel<PickArgs> kernel) {
  KernelRig rig(where);
  const PickArgs args = pick_args(rig, {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0});
  return rig.watch(kPick, kernel, args);
}

Status wrong(const Where& where) { return step(where, attend_tiles); }
Status twin(const Where& where) { return step(where, attend_seen); }

}  // namespace

const Entry kM5 = {
    .id = "M5",
    .fault_class = 'm',
    .title = "what lies behind a sequence's last token enters with weight 0, and it is NaN",
    .thread = "Dao-AILab/flash-attention#1745",
    .expect = {.moment = Moment::kPoison, .check = "N1", .field = "out", .row = 0, .found = "nan"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
