// Slot times 576 was computed in 32 bits and widened afterwards: it overflows near 3.7M slots. There was a
// branch for caches of more than 2 GB, and it multiplied in 32 bits too. lightseekorg/tokenspeed#501,
// ROCm/aiter#4474.
#include "faults/kernels.h"

namespace lockstep::faults {
namespace {

struct StoreArgs {
  KvView cache;
  TensorView slots;  // [N] i64
};
constexpr OpArg arg_of_cache(int index_bits) {
  return {LS_ARG(StoreArgs, cache),    .access = Access::kWrite, .dims = "PKBD",
          .rows = RowsTouched::kOwned, .any_stride = true,       .index_bits = index_bits};
}
constexpr OpArg kSlotsArg{LS_ARG(StoreArgs, slots), .dims = "N"};
constexpr OpArg kNarrowArgs[] = {arg_of_cache(32), kSlotsArg};
constexpr OpArg kWideArgs[] = {arg_of_cache(64), kSlotsArg};
constexpr OpSpec kNarrow{.name = "store_latent", .args = kNarrowArgs, .args_bytes = sizeof(StoreArgs)};
constexpr OpSpec kWide{.name = "store_latent", .args = kWideArgs, .args_bytes = sizeof(StoreArgs)};

void widen_last(const StoreArgs& args, Worker /*worker*/) {
  const auto slot = static_cast<int32_t>(args.slots.as<int64_t>()[0]);
  const int64_t at = static_cast<int32_t>(slot * static_cast<int32_t>(args.cache.k.token_stride));
  static_cast<uint16_t*>(args.cache.k.data)[at] = 0;
}
void widen_first(const StoreArgs& args, Worker /*worker*/) {
  static_cast<uint16_t*>(args.cache.k.data)[args.slots.as<int64_t>()[0] * args.cache.k.token_stride] = 0;
}

Status store(const Where& where, const OpSpec& spec, Kernel<StoreArgs> kernel) {
  KernelRig rig(where);
  rig.step({{0, 3}}, bucket(4, 2, 1));
  const OpSpec* ops[] = {&spec};
  const ConsumerSpec consumer{.name = "cache_write", .ops = ops, .fields = {}};
  const StoreArgs args{
      .cache = rig.cache("apart/token",
                         {.pages = 58255, .head_dim = 576, .dtype = DType::kBF16, .page_tokens = 64}),
      .slots = rig.memory("slots", DType::kI64, {1})};
  return rig.record(consumer, kernel, args);
}

Status wrong(const Where& where) { return store(where, kNarrow, widen_last); }
Status twin(const Where& where) { return store(where, kWide, widen_first); }

}  // namespace

const Entry kI5 = {
    .id = "I5",
    .fault_class = 'i',
    .title = "slot times 576 is computed in 32 bits and widened afterwards",
    .thread = "lightseekorg/tokenspeed#501",
    .expect = {.moment = Moment::kCapture,
               .check = "P6",
               .field = "cache",
               .consumer = "store_latent (stage, layer -1)",
               .expected = "the 32 bits of its index"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
