// The list of pointers named the plane of values already, and the strided path added the plane's offset once
// more: the last pages lie behind the buffer. alibaba/tair-kvcache#240 (review).
#include <algorithm>

#include "faults/kernels.h"

namespace lockstep::faults {
namespace {

struct ReadArgs {
  KvView cache;
  TensorView out;  // [N, D] f32: the first value of each page
};
constexpr OpArg kArgs[] = {
    {LS_ARG(ReadArgs, cache), .dims = "PKBD", .rows = RowsTouched::kOwned, .any_stride = true},
    {LS_ARG(ReadArgs, out), .access = Access::kWrite, .dims = "NE"}};
constexpr OpSpec kRead{.name = "read_values", .args = kArgs, .args_bytes = sizeof(ReadArgs)};
constexpr const OpSpec* kOps[] = {&kRead};
constexpr ConsumerSpec kConsumer{.name = "connector", .ops = kOps, .fields = {}};

void read_values(const ReadArgs& args, Worker /*worker*/) {
  for (int64_t page = 0; page < args.out.dim(0); ++page)
    std::copy_n(static_cast<const float*>(args.cache.v.data) + page * args.cache.v.page_stride,
                args.out.dim(1), args.out.as<float>() + page * args.out.dim(1));
}

Status read(const Where& where, bool twice) {
  KernelRig rig(where);
  rig.step({{0, 3}}, bucket(4, 2, 1));
  KvView cache = rig.cache("apart/token", {.pages = 1024});
  const auto plane = static_cast<char*>(cache.v.data) - static_cast<char*>(cache.k.data);
  if (twice) cache.v.data = static_cast<char*>(cache.v.data) + plane;
  return rig.record(kConsumer, read_values,
                    ReadArgs{.cache = cache, .out = rig.memory("out", DType::kF32, {1024, 4})});
}

Status wrong(const Where& where) { return read(where, true); }
Status twin(const Where& where) { return read(where, false); }

}  // namespace

const Entry kE6 = {
    .id = "E6",
    .fault_class = 'e',
    .title = "the offset of the plane of values is added to a pointer that has it already",
    .thread = "alibaba/tair-kvcache#240",
    .expect = {.moment = Moment::kCapture,
               .check = "P6",
               .field = "cache",
               .consumer = "read_values (stage, layer -1)",
               .expected = "bytes inside caches/cache of 524288 bytes",
               .found = "bytes 524288 to 786432"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
