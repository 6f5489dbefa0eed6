// Without ragged offsets the stride from one sequence's queries to the next was that of one token: sequence b
// read from token b. The first was right, the others plausible, and the wrapper's own tests always passed
// offsets. flashinfer-ai/flashinfer#3801.
#include <algorithm>

#include "faults/kernels.h"

namespace lockstep::faults {
namespace {

constexpr int64_t kBatch = 2, kLength = 3, kHeads = 2, kDim = 4;

struct DenseArgs {
  TensorView q;    // [B, L, H, D] f32, any strides
  TensorView out;  // [B, L, H, D] f32
};
constexpr OpArg kArgs[] = {{LS_ARG(DenseArgs, q), .dims = "BLHD", .any_stride = true},
                           {LS_ARG(DenseArgs, out), .access = Access::kWrite, .dims = "BLHD"}};
constexpr OpSpec kDense{.name = "attend_dense", .args = kArgs, .args_bytes = sizeof(DenseArgs)};
constexpr const OpSpec* kOps[] = {&kDense};
constexpr ConsumerSpec kConsumer{.name = "dense", .ops = kOps, .fields = {}};

void attend(const DenseArgs& args, Worker /*worker*/) {
  for (int64_t b = 0; b < kBatch; ++b)
    std::copy_n(args.q.as<float>() + b * args.q.stride(0), kLength * kHeads * kDim,
                args.out.as<float>() + b * args.out.stride(0));
}

Status run(const Where& where, int64_t batch_stride) {
  KernelRig rig(where);
  rig.step({{0, kLength}, {1, kLength}}, bucket(6, 2, 2));
  DenseArgs args{.q = rig.numbers("q", {kBatch, kLength, kHeads, kDim}),
                 .out = rig.memory("out", DType::kF32, {kBatch, kLength, kHeads, kDim})};
  args.q.strides[0] = batch_stride;
  return rig.record(kConsumer, attend, args);
}

Status wrong(const Where& where) { return run(where, kHeads * kDim); }
Status twin(const Where& where) { return run(where, kLength * kHeads * kDim); }

}  // namespace

const Entry kE3 = {
    .id = "E3",
    .fault_class = 'e',
    .title = "queries of the next sequence begin one token on, and so inside the sequence before",
    .thread = "flashinfer-ai/flashinfer#3801",
    .expect = {.moment = Moment::kCapture,
               .check = "P6",
               .field = "q",
               .expected = "share no memory",
               .found = "strides [8, 8, 4, 1]"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
