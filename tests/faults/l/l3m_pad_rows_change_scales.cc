// Quantisation of expert inputs takes the largest magnitude of a group past the mask of valid rows: the
// scales of live rows become wrong but finite, which no search for NaN sees. 8 tokens in 64 slots.
// flashinfer-ai/flashinfer#3057.
#include <algorithm>
#include <cmath>

#include "faults/kernels.h"

namespace lockstep::faults {
namespace {

constexpr int64_t kWidth = 4;
constexpr float kLevels = 6.0f;  // the largest number of the narrow format

struct QuantizeArgs {
  TensorView x;    // [T, E] f32
  TensorView out;  // [T, E] f32: rounded to the scale of all rows
  const LiveRows* num_rows = nullptr;
};
constexpr OpArg kArgs[] = {{LS_ARG(QuantizeArgs, x), .dims = "TE", .rows = RowsTouched::kLive},
                           {LS_ARG(QuantizeArgs, out), .access = Access::kWrite, .dims = "TE"},
                           {LS_ARG(QuantizeArgs, num_rows), .rows = RowsTouched::kNone}};
constexpr OpSpec kQuantize{.name = "quantize", .args = kArgs, .args_bytes = sizeof(QuantizeArgs)};

void quantize(const QuantizeArgs& args, int64_t rows_of_scale) {
  const float* x = args.x.as<float>();
  float largest = 0;
  for (int64_t i = 0; i < rows_of_scale * kWidth; ++i) largest = std::fmax(largest, std::fabs(x[i]));
  const float scale = largest / kLevels;
  const int64_t live = args.num_rows->get() * kWidth;
  for (int64_t i = 0; i < args.out.elements(); ++i)
    args.out.as<float>()[i] = i < live ? std::round(x[i] / scale) * scale : 0.0f;
}
void quantize_slots(const QuantizeArgs& args, Worker /*worker*/) { quantize(args, args.x.dim(0)); }
void quantize_live(const QuantizeArgs& args, Worker /*worker*/) { quantize(args, args.num_rows->get()); }

Status step(const Where& where, Kernel<QuantizeArgs> kernel) {
  KernelRig rig(where);
  rig.step({{0, 8}}, bucket(64, 8, 1));
  const QuantizeArgs args{.x = rig.numbers("x", {64, kWidth}),
                          .out = rig.memory("out", DType::kF32, {64, kWidth}),
                          .num_rows = rig.scalar(field::num_rows)};
  return rig.watch(kQuantize, kernel, args);
}

Status wrong(const Where& where) { return step(where, quantize_slots); }
Status twin(const Where& where) { return step(where, quantize_live); }

}  // namespace

const Entry kL3m = {
    .id = "L3m",
    .fault_class = 'l',
    .title =
        "the scale of an expert's inputs is taken over pad slots too: live rows come out wrong but finite",
    .thread = "flashinfer-ai/flashinfer#3057",
    .expect = {.moment = Moment::kPoison, .check = "N1", .field = "out", .row = 0},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
