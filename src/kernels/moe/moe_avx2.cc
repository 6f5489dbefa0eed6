#include "kernels/common/simd_avx2.h"
#include "kernels/linear/cores_avx2.h"
#include "kernels/moe/moe_body.h"
#include "kernels/moe/moe_kernels.h"
#include "kernels/moe/moe_route_body.h"

namespace lockstep::avx2 {

void moe_route(const MoeRouteArgs& args, Worker worker) { route<Simd>(args, worker); }

void moe_prepare(const MoeExpertsArgs& args, Worker worker) {
  if (args.gate_up.layout == WeightLayout::kRowMajor) return;
  switch (args.gate_up.dtype) {
    case DType::kF32: return prepare_choices<CoreAvx2F32>(args, worker);
    case DType::kF16: return prepare_choices<CoreAvx2F16>(args, worker);
    default: return prepare_choices<CoreAvx2BF16>(args, worker);
  }
}

void moe_gate_up(const MoeExpertsArgs& args, Worker worker) {
  if (args.gate_up.layout == WeightLayout::kRowMajor) return reference::moe_gate_up(args, worker);
  switch (args.gate_up.dtype) {
    case DType::kF32: return gate_up<CoreAvx2F32, Simd>(args, worker);
    case DType::kF16: return gate_up<CoreAvx2F16, Simd>(args, worker);
    default: return gate_up<CoreAvx2BF16, Simd>(args, worker);
  }
}

void moe_down(const MoeExpertsArgs& args, Worker worker) {
  if (args.down.layout == WeightLayout::kRowMajor) return reference::moe_down(args, worker);
  switch (args.down.dtype) {
    case DType::kF32: return down<CoreAvx2F32>(args, worker);
    case DType::kF16: return down<CoreAvx2F16>(args, worker);
    default: return down<CoreAvx2BF16>(args, worker);
  }
}

void moe_combine(const MoeExpertsArgs& args, Worker worker) { combine<Simd>(args, worker); }

}  // namespace lockstep::avx2
