// gated_norm over a vector type: the body of the AVX2 and AVX-512 kernels.
#pragma once

#include "kernels/common/live_rows.h"
#include "kernels/common/simd_math.h"
#include "kernels/common/simd_rows.h"
#include "kernels/gated_norm/gated_norm_kernels.h"

namespace lockstep {

// Part of the heads of all rows per worker. x is read whole for the norm before out, which may be x, is
// written.
template <typename V>
void gated_norm_body(const GatedNormArgs& args, Worker worker) {
  const int64_t live = live_rows(args.num_rows, args.out.dim(0));
  const int64_t heads = args.out.dim(1);
  const int64_t width = args.out.dim(2);
  const auto* weight = static_cast<const float*>(args.weight.data);
  const Worker::Range items = worker.share(args.out.dim(0) * heads);
  const auto at = [heads](const TensorView& tensor, int64_t item) {
    return static_cast<float*>(tensor.data) + item / heads * tensor.stride(0) +
           item % heads * tensor.stride(1);
  };
  for (int64_t item = items.begin; item < items.end; ++item) {
    float* out = at(args.out, item);
    if (item / heads >= live) {
      zero_row<V>(out, width);
      continue;
    }
    const float* x = at(args.x, item);
    const float* z = at(args.z, item);
    const auto scale =
        inverse_rms<V>(width, args.epsilon, [&](int64_t i, int64_t n) { return load_lanes<V>(x + i, n); });
    for_lanes<V>(width, [&](int64_t i, int64_t n) {
      const auto normed = V::mul(V::mul(load_lanes<V>(x + i, n), scale), load_lanes<V>(weight + i, n));
      store_lanes<V>(out + i, V::mul(normed, simd_silu<V>(load_lanes<V>(z + i, n))), n);
    });
  }
}

}  // namespace lockstep
