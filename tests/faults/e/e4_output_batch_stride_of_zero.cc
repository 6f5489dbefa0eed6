// The kernel that combines split results got no batch stride for its output: 0. All sequences wrote over the
// first one's rows, the rest stayed unwritten. pytorch/pytorch#194168.
#include <algorithm>

#include "faults/kernels.h"

namespace lockstep::faults {
namespace {

constexpr int64_t kBatch = 2, kLength = 3, kWidth = 8;

struct CombineArgs {
  TensorView parts;  // [X, B, L, E] f32
  TensorView out;    // [B, L, E] f32, any strides
};
constexpr OpArg kArgs[] = {
    {LS_ARG(CombineArgs, parts), .dims = "XBLE"},
    {LS_ARG(CombineArgs, out), .access = Access::kWrite, .dims = "BLE", .any_stride = true}};
constexpr OpSpec kCombine{.name = "combine", .args = kArgs, .args_bytes = sizeof(CombineArgs)};
constexpr const OpSpec* kOps[] = {&kCombine};
constexpr ConsumerSpec kConsumer{.name = "split", .ops = kOps, .fields = {}};

void combine(const CombineArgs& args, Worker /*worker*/) {
  for (int64_t b = 0; b < kBatch; ++b) {
    float* out = args.out.as<float>() + b * args.out.stride(0);
    std::fill_n(out, kLength * kWidth, 0.0f);
    for (int64_t x = 0; x < args.parts.dim(0); ++x) {
      const float* part = args.parts.as<float>() + x * args.parts.stride(0) + b * args.parts.stride(1);
      for (int64_t i = 0; i < kLength * kWidth; ++i) out[i] += part[i];
    }
  }
}

Status run(const Where& where, bool stride_unset) {
  KernelRig rig(where);
  rig.step({{0, kLength}, {1, kLength}}, bucket(6, 2, 2));
  CombineArgs args{.parts = rig.numbers("parts", {2, kBatch, kLength, kWidth}),
                   .out = rig.memory("out", DType::kF32, {kBatch, kLength, kWidth})};
  if (stride_unset) args.out.strides[0] = 0;
  return rig.record(kConsumer, combine, args);
}

Status wrong(const Where& where) { return run(where, true); }
Status twin(const Where& where) { return run(where, false); }

}  // namespace

const Entry kE4 = {
    .id = "E4",
    .fault_class = 'e',
    .title = "the output's stride from one sequence to the next was never set, and is 0",
    .thread = "pytorch/pytorch#194168",
    .expect = {.moment = Moment::kCapture,
               .check = "P6",
               .field = "out",
               .expected = "share no memory",
               .found = "strides [0, 8, 1]"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
