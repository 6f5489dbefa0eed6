// Rows of an indexer were put into pages by token index, one after another, while a page packs its tokens
// chunk by chunk. The same bytes, in another order inside the page: bounds and page checksums agreed. Who may
// write is known here for each token's own bytes. sgl-project/sglang#31218.
#include <algorithm>

#include "faults/kernels.h"
#include "kernels/kv_cache/kv_cache.h"

namespace lockstep::faults {
namespace {

// `packed`: by the layout's strides; else as if a token's elements lay side by side.
void store(const StoreKvArgs& args, bool packed) {
  for (int64_t row = 0; row < args.num_rows->get(); ++row) {
    const int64_t slot = static_cast<const SlotOrSkip*>(args.slot_mapping.data)[row].slot();
    const int64_t page = slot / args.cache.page_tokens, token = slot % args.cache.page_tokens;
    for (const auto& [plane, from] : {std::pair(args.cache.k, args.k), std::pair(args.cache.v, args.v)}) {
      float* to = static_cast<float*>(plane.data);
      for (int64_t d = 0; d < args.cache.head_dim; ++d) {
        const int64_t by_index = page * plane.page_stride + token * args.cache.head_dim + d;
        to[packed ? plane.offset(page, 0, token, d) : by_index] = from.as<float>()[row * from.stride(0) + d];
      }
    }
  }
}

void by_token_index(const StoreKvArgs& args, Worker /*worker*/) { store(args, false); }
void by_layout(const StoreKvArgs& args, Worker /*worker*/) { store(args, true); }

Status move(const Where& where, Kernel<StoreKvArgs> kernel) {
  KernelRig rig(where);
  rig.step({{0, 3}}, bucket(4, 2, 1));
  const StoreKvArgs args{.k = rig.numbers("k", {4, 1, 8}),
                         .v = rig.numbers("v", {4, 1, 8}),
                         .slot_mapping = rig.field(FieldId::slot_mapping),
                         .cache = rig.cache("apart/shuffled4", {.head_dim = 8}),
                         .num_rows = rig.scalar(field::num_rows)};
  return rig.watch(kStoreKvSpec, kernel, args);
}

Status wrong(const Where& where) { return move(where, by_token_index); }
Status twin(const Where& where) { return move(where, by_layout); }

}  // namespace

const Entry kI7 = {
    .id = "I7",
    .fault_class = 'i',
    .title = "rows are put into a page by token index, while the page packs its tokens chunk by chunk",
    .thread = "sgl-project/sglang#31218",
    .expect = {.moment = Moment::kPoison, .check = "L4", .field = "cache", .row = 1, .expected = "unchanged"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
