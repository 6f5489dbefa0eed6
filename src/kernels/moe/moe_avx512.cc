#include "kernels/common/simd_avx512.h"
#include "kernels/linear/cores_avx512.h"
#include "kernels/moe/moe_body.h"
#include "kernels/moe/moe_kernels.h"
#include "kernels/moe/moe_route_body.h"

namespace lockstep::avx512 {

void moe_route(const MoeRouteArgs& args, Worker worker) { route<Simd>(args, worker); }

void moe_prepare(const MoeExpertsArgs& args, Worker worker) {
  if (args.gate_up.layout == WeightLayout::kRowMajor) return;
  switch (args.gate_up.dtype) {
    case DType::kF32: return prepare_choices<CoreAvx512F32>(args, worker);
    case DType::kF16: return prepare_choices<CoreAvx512F16>(args, worker);
    default: return prepare_choices<CoreAvx512BF16>(args, worker);
  }
}

void moe_gate_up(const MoeExpertsArgs& args, Worker worker) {
  if (args.gate_up.layout == WeightLayout::kRowMajor) return reference::moe_gate_up(args, worker);
  switch (args.gate_up.dtype) {
    case DType::kF32: return gate_up<CoreAvx512F32, Simd>(args, worker);
    case DType::kF16: return gate_up<CoreAvx512F16, Simd>(args, worker);
    default: return gate_up<CoreAvx512BF16, Simd>(args, worker);
  }
}

void moe_down(const MoeExpertsArgs& args, Worker worker) {
  if (args.down.layout == WeightLayout::kRowMajor) return reference::moe_down(args, worker);
  switch (args.down.dtype) {
    case DType::kF32: return down<CoreAvx512F32>(args, worker);
    case DType::kF16: return down<CoreAvx512F16>(args, worker);
    default: return down<CoreAvx512BF16>(args, worker);
  }
}

void moe_combine(const MoeExpertsArgs& args, Worker worker) { combine<Simd>(args, worker); }

}  // namespace lockstep::avx512
