// head_squares and all_heads_norm over a vector type: the bodies of the AVX2 and AVX-512 kernels.
#pragma once

#include "kernels/all_heads_norm/all_heads_norm_kernels.h"
#include "kernels/common/simd_rows.h"

namespace lockstep {

// Part of the rows per worker. Four sums hide the latency of the multiply-add.
template <typename V>
void head_squares_body(const HeadSquaresArgs& args, Worker worker) {
  using Reg = typename V::Reg;
  const int64_t size = args.x.dim(2);
  const auto [begin, end] = worker.share(args.x.dim(0));
  for (int64_t t = begin; t < end; ++t) {
    float* out = static_cast<float*>(args.out.data) + t * args.out.stride(0);
    const int64_t heads = t < args.num_rows->get() ? args.counted_heads : 0;
    Reg sums[4] = {V::zero(), V::zero(), V::zero(), V::zero()};
    for (int64_t h = 0; h < heads; ++h) {
      const float* x = static_cast<const float*>(args.x.data) + t * args.x.stride(0) + h * args.x.stride(1);
      int64_t i = 0;
      for (; i + 4 * V::kWidth <= size; i += 4 * V::kWidth) {
#pragma GCC unroll 4
        for (int j = 0; j < 4; ++j) {
          const Reg part = V::load(x + i + j * V::kWidth);
          sums[j] = V::fma(part, part, sums[j]);
        }
      }
      for_lanes<V>(size - i, [&](int64_t at, int64_t n) {
        const Reg part = load_lanes<V>(x + i + at, n);
        sums[0] = V::fma(part, part, sums[0]);
      });
    }
    *out = V::reduce_add(V::add(V::add(sums[0], sums[1]), V::add(sums[2], sums[3])));
  }
}

// Part of the (row, head) pairs per worker.
template <typename V>
void all_heads_norm_body(const AllHeadsNormArgs& args, Worker worker) {
  using Reg = typename V::Reg;
  const int64_t heads = args.x.dim(1), size = args.x.dim(2);
  const Reg offset = V::set1(args.flavour == NormFlavour::kZeroCentred ? 1.0f : 0.0f);
  const auto [begin, end] = worker.share(args.x.dim(0) * heads);
  for (int64_t item = begin; item < end; ++item) {
    const int64_t t = item / heads, h = item % heads;
    const float* x = static_cast<const float*>(args.x.data) + t * args.x.stride(0) + h * args.x.stride(1);
    const float* weight = static_cast<const float*>(args.weight.data) + h * args.weight.stride(0);
    float* to = static_cast<float*>(args.out.data) + t * args.out.stride(0) + h * args.out.stride(1);
    if (t >= args.num_rows->get()) {
      zero_row<V>(to, size);
      continue;
    }
    const float squares = static_cast<const float*>(args.squares.data)[t * args.squares.stride(0)];
    const Reg mean = V::div(V::set1(squares), V::set1(static_cast<float>(args.width)));
    const Reg scale = V::div(V::set1(1.0f), V::sqrt(V::add(mean, V::set1(args.epsilon))));
    for_lanes<V>(size, [&](int64_t i, int64_t n) {
      const Reg gain = V::add(offset, load_lanes<V>(weight + i, n));
      store_lanes<V>(to + i, V::mul(V::mul(load_lanes<V>(x + i, n), scale), gain), n);
    });
  }
}

}  // namespace lockstep
