#include "kernels/linear/cores_avx512bf16.h"
#include "kernels/linear/linear_body.h"
#include "kernels/linear/linear_kernels.h"

namespace lockstep::avx512bf16 {

// Only rounded inputs can be multiplied as pairs of bf16.
void linear_prepare(const LinearArgs& args, Worker worker) {
  if (args.input == MatmulInput::kF32 || args.weight.layout == WeightLayout::kRowMajor) {
    return avx512::linear_prepare(args, worker);
  }
  prepare_workspace<CoreDotBF16>(args, worker);
}

void linear(const LinearArgs& args, Worker worker) {
  if (args.input == MatmulInput::kF32 || args.weight.layout == WeightLayout::kRowMajor) {
    return avx512::linear(args, worker);
  }
  multiply<CoreDotBF16>(args, worker);
}

}  // namespace lockstep::avx512bf16
