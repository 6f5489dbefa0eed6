#include "kernels/common/simd_avx512.h"
#include "kernels/linear/cores_avx512bf16.h"
#include "kernels/moe/moe_body.h"
#include "kernels/moe/moe_kernels.h"

namespace lockstep::avx512bf16 {
namespace {

struct Simd : avx512::Simd {};

// Only rounded inputs can be multiplied as pairs of bf16.
bool by_pairs(const MoeExpertsArgs& args) {
  return args.input == MatmulInput::kBF16 && args.gate_up.layout != WeightLayout::kRowMajor;
}

}  // namespace

void moe_prepare(const MoeExpertsArgs& args, Worker worker) {
  by_pairs(args) ? prepare_choices<CoreDotBF16>(args, worker) : avx512::moe_prepare(args, worker);
}

void moe_gate_up(const MoeExpertsArgs& args, Worker worker) {
  by_pairs(args) ? gate_up<CoreDotBF16, Simd>(args, worker) : avx512::moe_gate_up(args, worker);
}

void moe_down(const MoeExpertsArgs& args, Worker worker) {
  by_pairs(args) ? down<CoreDotBF16>(args, worker) : avx512::moe_down(args, worker);
}

}  // namespace lockstep::avx512bf16
