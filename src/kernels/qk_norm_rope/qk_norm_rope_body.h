// qk_norm_rope over a vector type: the body of the AVX2 and AVX-512 kernels.
#pragma once

#include "kernels/common/simd_rows.h"
#include "kernels/qk_norm_rope/qk_norm_rope_kernels.h"

namespace lockstep {

// to = norm(from), or a copy without a weight.
template <typename V>
[[gnu::always_inline]] inline void norm_head(const QkNormRopeArgs& args, const float* from, float* to) {
  using Reg = typename V::Reg;
  const int64_t width = args.x.dim(2);
  if (!args.weight) {
    if (from == to) return;
    for_lanes<V>(width, [&](int64_t i, int64_t n) { store_lanes<V>(to + i, load_lanes<V>(from + i, n), n); });
    return;
  }
  const auto* weight = static_cast<const float*>(args.weight.data);
  const Reg offset = V::set1(args.flavour == NormFlavour::kZeroCentred ? 1.0f : 0.0f);
  const Reg scale =
      inverse_rms<V>(width, args.epsilon, [&](int64_t i, int64_t n) { return load_lanes<V>(from + i, n); });
  for_lanes<V>(width, [&](int64_t i, int64_t n) {
    const Reg gain = V::add(offset, load_lanes<V>(weight + i, n));
    store_lanes<V>(to + i, V::mul(V::mul(load_lanes<V>(from + i, n), scale), gain), n);
  });
}

template <typename V>
[[gnu::always_inline]] inline void rotate_head(const float* cos_sin, int64_t half, float* to) {
  using Reg = typename V::Reg;
  for_lanes<V>(half, [&](int64_t i, int64_t n) {
    const Reg first = load_lanes<V>(to + i, n), second = load_lanes<V>(to + half + i, n);
    const Reg cosine = load_lanes<V>(cos_sin + i, n), sine = load_lanes<V>(cos_sin + half + i, n);
    store_lanes<V>(to + i, V::fnma(second, sine, V::mul(first, cosine)), n);
    store_lanes<V>(to + half + i, V::fma(first, sine, V::mul(second, cosine)), n);
  });
}

// Part of the (row, head) pairs per worker; a head stays in the first-level cache between norm and rotation.
template <typename V>
void qk_norm_rope_body(const QkNormRopeArgs& args, Worker worker) {
  const auto* cos_sin = static_cast<const float*>(args.cos_sin.data);
  const int64_t half = cos_sin == nullptr ? 0 : args.cos_sin.dim(1) / 2;
  const int64_t heads = args.x.dim(1);
  const auto [begin, end] = worker.share(args.x.dim(0) * heads);
  for (int64_t item = begin; item < end; ++item) {
    const int64_t t = item / heads, h = item % heads;
    float* to = static_cast<float*>(args.out.data) + t * args.out.stride(0) + h * args.out.stride(1);
    if (t >= args.num_rows->get()) {
      zero_row<V>(to, args.x.dim(2));
      continue;
    }
    norm_head<V>(args, static_cast<const float*>(args.x.data) + t * args.x.stride(0) + h * args.x.stride(1),
                 to);
    if (half > 0) rotate_head<V>(cos_sin + t * args.cos_sin.stride(0), half, to);
  }
}

}  // namespace lockstep
