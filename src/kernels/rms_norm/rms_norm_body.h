// rms_norm over a vector type: the body of the AVX2 and AVX-512 kernels.
#pragma once

#include "kernels/common/simd_rows.h"
#include "kernels/rms_norm/rms_norm_kernels.h"

namespace lockstep {

// Part of the rows per worker. A row is read once from memory and, since it stays in the cache, scaled there.
template <typename V>
void rms_norm_body(const RmsNormArgs& args, Worker worker) {
  using Reg = typename V::Reg;
  const auto* weight = static_cast<const float*>(args.weight.data);
  const int64_t width = args.x.dim(1);
  const Reg offset = V::set1(args.flavour == NormFlavour::kZeroCentred ? 1.0f : 0.0f);
  const Reg x_scale = V::set1(args.x_scale), out_scale = V::set1(args.out_scale);
  const auto [begin, end] = worker.share(args.x.dim(0));
  for (int64_t t = begin; t < end; ++t) {
    const float* from = static_cast<const float*>(args.x.data) + t * args.x.stride(0);
    float* sum =
        args.residual ? static_cast<float*>(args.residual.data) + t * args.residual.stride(0) : nullptr;
    float* to = static_cast<float*>(args.out.data) + t * args.out.stride(0);
    if (t >= args.num_rows->get()) {
      zero_row<V>(to, width);
      if (sum != nullptr) zero_row<V>(sum, width);
      continue;
    }
    const float* source = from;
    if (sum != nullptr) {
      for_lanes<V>(width, [&](int64_t i, int64_t n) {
        const Reg added = V::fma(load_lanes<V>(from + i, n), x_scale, load_lanes<V>(sum + i, n));
        store_lanes<V>(sum + i, added, n);
      });
      source = sum;
    }
    const Reg inverse = inverse_rms<V>(width, args.epsilon,
                                       [&](int64_t i, int64_t n) { return load_lanes<V>(source + i, n); });
    const Reg scale = V::mul(inverse, out_scale);
    for_lanes<V>(width, [&](int64_t i, int64_t n) {
      const Reg gain = V::add(offset, load_lanes<V>(weight + i, n));
      store_lanes<V>(to + i, V::mul(V::mul(load_lanes<V>(source + i, n), scale), gain), n);
    });
  }
}

}  // namespace lockstep
