// The cache write took its row count from the padded keys, 1240, while the slot map had the live rows, 1234:
// the loop read past the end of the map. Graph runs stalled or faulted; found by removing kernels one by
// one. vllm-project/vllm#13418, #13922.
#include <cstring>

#include "faults/kernels.h"
#include "kernels/kv_cache/kv_cache.h"

namespace lockstep::faults {
namespace {

constexpr int32_t kLive = 1234, kPadded = 1240;

constexpr const OpSpec* kOps[] = {&kStoreKvSpec};
constexpr FieldUse kUses[] = {{.field = FieldId::slot_mapping, .argument = "store_kv.slot_mapping"},
                              {.field = FieldId::num_rows, .argument = "store_kv.num_rows"}};
constexpr ConsumerSpec kWrite{.name = "cache_write", .ops = kOps, .fields = kUses};

void store(const StoreKvArgs& args, Worker /*worker*/) {
  const auto bytes = static_cast<size_t>(args.cache.head_dim) * sizeof(float);
  for (int64_t row = 0; row < args.k.dim(0); ++row) {
    const SlotOrSkip slot = static_cast<const SlotOrSkip*>(args.slot_mapping.data)[row];
    if (slot.is_skip()) continue;
    const int64_t page = slot.slot() / args.cache.page_tokens, token = slot.slot() % args.cache.page_tokens;
    std::memcpy(static_cast<float*>(args.cache.k.data) + args.cache.k.offset(page, 0, token, 0),
                args.k.as<float>() + row * args.k.stride(0), bytes);
  }
}

Status write(const Where& where, bool live_slots) {
  KernelRig rig(where);
  rig.step({{0, kLive}}, bucket(kPadded, 8, 1));
  StoreKvArgs args{.k = rig.numbers("k", {kPadded, 1, 4}),
                   .v = rig.numbers("v", {kPadded, 1, 4}),
                   .slot_mapping = rig.field(FieldId::slot_mapping),
                   .cache = rig.cache("apart/token", {.pages = 128}),
                   .num_rows = rig.scalar(field::num_rows)};
  if (live_slots) args.slot_mapping = args.slot_mapping.rows(0, kLive);
  return rig.record(kWrite, store, args);
}

Status wrong(const Where& where) { return write(where, true); }
Status twin(const Where& where) { return write(where, false); }

}  // namespace

const Entry kD16 = {
    .id = "D16",
    .fault_class = 'd',
    .title = "a cache write counts rows by the padded keys and reads a slot map of live rows",
    .thread = "vllm-project/vllm#13418",
    .expect = {.moment = Moment::kCapture,
               .check = "L1",
               .field = "slot_mapping",
               .expected = "1240",
               .found = "1234"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
