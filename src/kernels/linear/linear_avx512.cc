#include "kernels/linear/cores_avx512.h"
#include "kernels/linear/linear_body.h"
#include "kernels/linear/linear_kernels.h"

namespace lockstep::avx512 {

void linear_prepare(const LinearArgs& args, Worker worker) {
  if (args.weight.layout == WeightLayout::kRowMajor) return;
  switch (args.weight.dtype) {
    case DType::kF32: return prepare_workspace<CoreAvx512F32>(args, worker);
    case DType::kF16: return prepare_workspace<CoreAvx512F16>(args, worker);
    default: return prepare_workspace<CoreAvx512BF16>(args, worker);
  }
}

void linear(const LinearArgs& args, Worker worker) {
  if (args.weight.layout == WeightLayout::kRowMajor) return reference::linear(args, worker);
  switch (args.weight.dtype) {
    case DType::kF32: return multiply<CoreAvx512F32>(args, worker);
    case DType::kF16: return multiply<CoreAvx512F16>(args, worker);
    default: return multiply<CoreAvx512BF16>(args, worker);
  }
}

}  // namespace lockstep::avx512
