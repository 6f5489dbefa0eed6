// Slots and blocks were multiplied in 32 bits: a cache of [64K, 32, 16, 16, 8] elements has 4,194,304K of
// them, more than an int counts. vllm-project/vllm#1486, #1514.
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
constexpr OpSpec kNarrow{.name = "reshape_and_cache", .args = kNarrowArgs, .args_bytes = sizeof(StoreArgs)};
constexpr OpSpec kWide{.name = "reshape_and_cache", .args = kWideArgs, .args_bytes = sizeof(StoreArgs)};

// Writes token 0 of a page.
template <typename Index>
void write(const StoreArgs& args, Worker /*worker*/) {
  const auto page = static_cast<Index>(args.slots.as<int64_t>()[0] / args.cache.page_tokens);
  const Index at = static_cast<Index>(page * static_cast<Index>(args.cache.k.page_stride));
  static_cast<uint16_t*>(args.cache.k.data)[at] = 0;
}

Status store(const Where& where, const OpSpec& spec, Kernel<StoreArgs> kernel) {
  KernelRig rig(where);
  rig.step({{0, 3}}, bucket(4, 2, 1));
  const OpSpec* ops[] = {&spec};
  const ConsumerSpec consumer{.name = "cache_write", .ops = ops, .fields = {}};
  const StoreArgs args{
      .cache = rig.cache("apart/token", {.pages = 65536, .heads = 32, .head_dim = 128, .dtype = DType::kF16}),
      .slots = rig.memory("slots", DType::kI64, {1})};
  return rig.record(consumer, kernel, args);
}

Status wrong(const Where& where) { return store(where, kNarrow, write<int32_t>); }
Status twin(const Where& where) { return store(where, kWide, write<int64_t>); }

}  // namespace

const Entry kI2 = {
    .id = "I2",
    .fault_class = 'i',
    .title = "slots are multiplied in 32 bits in a cache of 2^32 elements",
    .thread = "vllm-project/vllm#1486",
    .expect = {.moment = Moment::kCapture,
               .check = "P6",
               .field = "cache",
               .consumer = "reshape_and_cache (stage, layer -1)",
               .expected = "the 32 bits of its index"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
