// A hybrid model's cache holds a page's keys and then its values, so pages lie twice as far apart as their
// size. The gather computed addresses as page x (heads x head size x page size): its largest error was 6.3,
// and 0.09 with the real stride. vllm-project/vllm#37228, ROCm/aiter#3498.
#include <algorithm>

#include "faults/kernels.h"

namespace lockstep::faults {
namespace {

struct GatherArgs {
  KvView cache;
  TensorView pages;  // [N] i32
  TensorView out;    // [N, D] f32: the first key of each page
};
constexpr OpArg arg_of_cache(bool any_stride) {
  return {LS_ARG(GatherArgs, cache), .dims = "PKBD", .rows = RowsTouched::kOwned, .any_stride = any_stride};
}
constexpr OpArg kPagesArg{LS_ARG(GatherArgs, pages), .dims = "N"};
constexpr OpArg kOutArg{LS_ARG(GatherArgs, out), .access = Access::kWrite, .dims = "NE"};
constexpr OpArg kByShapeArgs[] = {arg_of_cache(false), kPagesArg, kOutArg};
constexpr OpArg kByStrideArgs[] = {arg_of_cache(true), kPagesArg, kOutArg};
constexpr OpSpec kByShape{.name = "gather_pages", .args = kByShapeArgs, .args_bytes = sizeof(GatherArgs)};
constexpr OpSpec kByStride{.name = "gather_pages", .args = kByStrideArgs, .args_bytes = sizeof(GatherArgs)};

void gather(const GatherArgs& args, int64_t page_stride) {
  const auto* keys = static_cast<const float*>(args.cache.k.data);
  for (int64_t i = 0; i < args.out.dim(0); ++i)
    std::copy_n(keys + args.pages.as<int32_t>()[i] * page_stride, args.out.dim(1),
                args.out.as<float>() + i * args.out.dim(1));
}
void by_shape(const GatherArgs& args, Worker /*worker*/) {
  gather(args, int64_t{args.cache.heads} * args.cache.head_dim * args.cache.page_tokens);
}
void by_stride(const GatherArgs& args, Worker /*worker*/) { gather(args, args.cache.k.page_stride); }

Status run(const Where& where, const OpSpec& spec, Kernel<GatherArgs> kernel) {
  KernelRig rig(where);
  rig.step({{0, 3}}, bucket(4, 2, 1));
  const OpSpec* ops[] = {&spec};
  const ConsumerSpec consumer{.name = "gather", .ops = ops, .fields = {}};
  const GatherArgs args{.cache = rig.cache("interleaved/token", {.heads = 2}),
                        .pages = rig.ids("pages", {2}, {1, 3}),
                        .out = rig.memory("out", DType::kF32, {2, 4})};
  return rig.record(consumer, kernel, args);
}

Status wrong(const Where& where) { return run(where, kByShape, by_shape); }
Status twin(const Where& where) { return run(where, kByStride, by_stride); }

}  // namespace

const Entry kE1 = {
    .id = "E1",
    .fault_class = 'e',
    .title = "a gather computes addresses from shapes, while pages interleave keys and values",
    .thread = "vllm-project/vllm#37228",
    .expect = {.moment = Moment::kCapture,
               .check = "L1",
               .field = "cache",
               .consumer = "gather_pages (stage, layer -1)",
               .expected = "strides [128,",
               .found = "strides [256,"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
