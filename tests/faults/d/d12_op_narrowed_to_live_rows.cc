// The op of the recurrent layers wanted as many output rows as there are tokens. Piecewise graphs pad rows
// and nothing else, so every batch below the bucket ended the process. Outputs have the bucket's rows here,
// and nobody narrows them. vllm-project/vllm-xpu-kernels#344.
#include <algorithm>

#include "faults/kernels.h"

namespace lockstep::faults {
namespace {

struct UpdateArgs {
  TensorView x;    // [T, E] f32
  TensorView out;  // [T, E] f32
  const LiveRows* num_rows = nullptr;
};
constexpr OpArg kArgs[] = {{LS_ARG(UpdateArgs, x), .dims = "TE", .rows = RowsTouched::kLive},
                           {LS_ARG(UpdateArgs, out), .access = Access::kWrite, .dims = "TE"},
                           {LS_ARG(UpdateArgs, num_rows), .rows = RowsTouched::kNone}};
constexpr OpSpec kUpdate{.name = "delta_update", .args = kArgs, .args_bytes = sizeof(UpdateArgs)};
constexpr const OpSpec* kOps[] = {&kUpdate};
constexpr FieldUse kUses[] = {{.field = FieldId::num_rows, .argument = "delta_update.num_rows"}};
constexpr ConsumerSpec kDelta{.name = "delta", .ops = kOps, .fields = kUses};

void update(const UpdateArgs& args, Worker /*worker*/) {
  const int64_t width = args.x.dim(1), live = args.num_rows->get() * width;
  std::copy_n(args.x.as<float>(), live, args.out.as<float>());
  std::fill(args.out.as<float>() + live, args.out.as<float>() + args.out.elements(), 0.0f);
}

Status run(const Where& where, bool narrow) {
  KernelRig rig(where);
  rig.step({{0, 3}}, bucket(4, 2, 1));
  UpdateArgs args{.x = rig.numbers("x", {4, 8}),
                  .out = rig.memory("out", DType::kF32, {4, 8}),
                  .num_rows = rig.scalar(field::num_rows)};
  if (narrow) args.out = args.out.rows(0, 3);
  return rig.record(kDelta, update, args);
}

Status wrong(const Where& where) { return run(where, true); }
Status twin(const Where& where) { return run(where, false); }

}  // namespace

const Entry kD12 = {
    .id = "D12",
    .fault_class = 'd',
    .title = "an op wants as many output rows as there are tokens, while the bucket pads rows",
    .thread = "vllm-project/vllm-xpu-kernels#344",
    .expect = {.moment = Moment::kCapture,
               .check = "L1",
               .field = "out",
               .consumer = "delta_update (stage, layer -1)",
               .expected = "4 rows",
               .found = "3 rows"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
