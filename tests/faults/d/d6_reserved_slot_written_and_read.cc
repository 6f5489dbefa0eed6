// Pad rows may hold anything, and stored it in the reserved slot 0. Window tables pad with page 0 too, so a
// tile that is valid in part loads that page, and 0 times NaN poisons live rows. Here nobody writes the pad
// page: pad rows skip. sgl-project/sglang#32477.
#include <cstring>

#include "faults/kernels.h"
#include "kernels/kv_cache/kv_cache.h"

namespace lockstep::faults {
namespace {

void store_row(const StoreKvArgs& args, int64_t row, int64_t slot) {
  const int64_t page = slot / args.cache.page_tokens, token = slot % args.cache.page_tokens;
  const auto bytes = static_cast<size_t>(args.cache.head_dim) * sizeof(float);
  std::memcpy(static_cast<float*>(args.cache.k.data) + args.cache.k.offset(page, 0, token, 0),
              args.k.as<float>() + row * args.k.stride(0), bytes);
  std::memcpy(static_cast<float*>(args.cache.v.data) + args.cache.v.offset(page, 0, token, 0),
              args.v.as<float>() + row * args.v.stride(0), bytes);
}

void store_all(const StoreKvArgs& args, Worker /*worker*/) {
  for (int64_t row = 0; row < args.k.dim(0); ++row) {
    const SlotOrSkip slot = static_cast<const SlotOrSkip*>(args.slot_mapping.data)[row];
    store_row(args, row, slot.is_skip() ? 0 : slot.slot());
  }
}

void store_live(const StoreKvArgs& args, Worker /*worker*/) {
  for (int64_t row = 0; row < args.k.dim(0); ++row) {
    const SlotOrSkip slot = static_cast<const SlotOrSkip*>(args.slot_mapping.data)[row];
    if (!slot.is_skip() && row < args.num_rows->get()) store_row(args, row, slot.slot());
  }
}

Status store(const Where& where, Kernel<StoreKvArgs> kernel) {
  KernelRig rig(where);
  rig.step({{0, 3}, {1, 1}}, bucket(8, 4, 2));
  const StoreKvArgs args{.k = rig.numbers("k", {8, 1, 4}),
                         .v = rig.numbers("v", {8, 1, 4}),
                         .slot_mapping = rig.field(FieldId::slot_mapping),
                         .cache = rig.small_cache(),
                         .num_rows = rig.scalar(field::num_rows)};
  return rig.watch(kStoreKvSpec, kernel, args);
}

Status wrong(const Where& where) { return store(where, store_all); }
Status twin(const Where& where) { return store(where, store_live); }

}  // namespace

const Entry kD6 = {
    .id = "D6",
    .fault_class = 'd',
    .title = "pad rows store what they hold in the reserved slot",
    .thread = "sgl-project/sglang#32477",
    .expect = {.moment = Moment::kPoison,
               .check = "L4",
               .field = "cache",
               .row = 0,
               .expected = "unchanged",
               .found = "overwritten"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
