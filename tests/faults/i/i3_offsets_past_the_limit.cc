// Offsets wrap when there are more blocks than 2^31 / (page x 2 x heads x dim), because keys and values share
// rows, and lead about 4 GiB below the cache: often mapped, so nobody notices. Up to the limit all is well;
// one block more is refused here. vllm-project/vllm#50427, #50483.
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
constexpr OpArg kArgs[] = {arg_of_cache(32), kSlotsArg};
constexpr OpSpec kFlex{.name = "flex_attention", .args = kArgs, .args_bytes = sizeof(StoreArgs)};

constexpr int32_t kHeads = 8, kDim = 128;
constexpr int32_t kLimit =
    static_cast<int32_t>((int64_t{1} << 31) / (int64_t{kPageTokens} * 2 * kHeads * kDim * 2));

void attend(const StoreArgs& args, Worker /*worker*/) {
  const auto page = static_cast<int32_t>(args.slots.as<int64_t>()[0] / args.cache.page_tokens);
  const int32_t at = page * static_cast<int32_t>(args.cache.k.page_stride * 2);
  static_cast<char*>(args.cache.k.data)[at] = 0;
}

Status store(const Where& where, int32_t blocks) {
  KernelRig rig(where);
  rig.step({{0, 3}}, bucket(4, 2, 1));
  const OpSpec* ops[] = {&kFlex};
  const ConsumerSpec consumer{.name = "cache_write", .ops = ops, .fields = {}};
  const StoreArgs args{
      .cache = rig.cache("interleaved/token",
                         {.pages = blocks, .heads = kHeads, .head_dim = kDim, .dtype = DType::kF16}),
      .slots = rig.memory("slots", DType::kI64, {1})};
  return rig.record(consumer, attend, args);
}

Status wrong(const Where& where) { return store(where, kLimit + 1); }
Status twin(const Where& where) { return store(where, kLimit); }

}  // namespace

const Entry kI3 = {
    .id = "I3",
    .fault_class = 'i',
    .title = "one block more than offsets of 32 bits reach",
    .thread = "vllm-project/vllm#50427",
    .expect = {.moment = Moment::kCapture,
               .check = "P6",
               .field = "cache",
               .consumer = "flex_attention (stage, layer -1)",
               .expected = "the 32 bits of its index",
               .found = "2147516416 bytes wide"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
