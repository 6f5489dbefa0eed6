// swiglu over a vector type.
#pragma once

#include "kernels/common/live_rows.h"
#include "kernels/common/simd_math.h"
#include "kernels/common/simd_rows.h"
#include "kernels/swiglu/swiglu_kernels.h"

namespace lockstep {

// Columns that one item covers: enough work to outweigh finding it, few enough that one row keeps all threads
// busy.
inline constexpr int64_t kSwigluColumns = 512;

// Workers share pieces of rows: element by element, no order matters.
template <typename V>
void swiglu_rows(const SwigluArgs& args, Worker worker) {
  const int64_t rows = args.out.dim(0), width = args.out.dim(1);
  const int64_t live = live_rows(args.num_rows, rows);
  const int64_t pieces = (width + kSwigluColumns - 1) / kSwigluColumns;
  const Worker::Range mine = worker.share(rows * pieces);
  for (int64_t item = mine.begin; item < mine.end; ++item) {
    const int64_t t = item / pieces, begin = item % pieces * kSwigluColumns;
    const int64_t count = width - begin < kSwigluColumns ? width - begin : kSwigluColumns;
    const float* gate = static_cast<const float*>(args.gate_up.data) + t * args.gate_up.stride(0) + begin;
    float* out = static_cast<float*>(args.out.data) + t * args.out.stride(0) + begin;
    if (t >= live) {
      zero_row<V>(out, count);
      continue;
    }
    for_lanes<V>(count, [&](int64_t f, int64_t n) {
      const auto activation = simd_silu<V>(load_lanes<V>(gate + f, n));
      store_lanes<V>(out + f, V::mul(activation, load_lanes<V>(gate + width + f, n)), n);
    });
  }
}

}  // namespace lockstep
