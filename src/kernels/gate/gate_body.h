// sigmoid_gate and gated_add over a vector type: the bodies of the AVX2 and AVX-512 kernels.
#pragma once

#include "kernels/common/simd_math.h"
#include "kernels/common/simd_rows.h"
#include "kernels/gate/gate_kernels.h"

namespace lockstep {

template <typename V>
void sigmoid_gate_body(const SigmoidGateArgs& args, Worker worker) {
  const int64_t heads = args.x.dim(1), width = args.x.dim(2);
  const auto [begin, end] = worker.share(args.x.dim(0) * heads);
  for (int64_t item = begin; item < end; ++item) {
    const int64_t t = item / heads, h = item % heads;
    float* out = static_cast<float*>(args.out.data) + t * args.out.stride(0) + h * args.out.stride(1);
    if (t >= args.num_rows->get()) {
      zero_row<V>(out, width);
      continue;
    }
    const float* x = static_cast<const float*>(args.x.data) + t * args.x.stride(0) + h * args.x.stride(1);
    const float* gate =
        static_cast<const float*>(args.gate.data) + t * args.gate.stride(0) + h * args.gate.stride(1);
    for_lanes<V>(width, [&](int64_t i, int64_t n) {
      const auto open = simd_sigmoid<V>(load_lanes<V>(gate + i, n));
      store_lanes<V>(out + i, V::mul(load_lanes<V>(x + i, n), open), n);
    });
  }
}

template <typename V>
void gated_add_body(const GatedAddArgs& args, Worker worker) {
  const int64_t width = args.y.dim(1);
  const auto* gates = static_cast<const float*>(args.gate.data);
  const auto [begin, end] = worker.share(args.y.dim(0));
  for (int64_t t = begin; t < end; ++t) {
    float* out = static_cast<float*>(args.out.data) + t * args.out.stride(0);
    if (t >= args.num_rows->get()) {
      zero_row<V>(out, width);
      continue;
    }
    const float* y = static_cast<const float*>(args.y.data) + t * args.y.stride(0);
    const auto open =
        gates == nullptr ? V::set1(1.0f) : simd_sigmoid<V>(V::set1(gates[t * args.gate.stride(0)]));
    for_lanes<V>(width, [&](int64_t i, int64_t n) {
      store_lanes<V>(out + i, V::fma(open, load_lanes<V>(y + i, n), load_lanes<V>(out + i, n)), n);
    });
  }
}

}  // namespace lockstep
