// A few blocks per sequence and head stride over the windows that the step completes; a thread adds up one
// element of a window's keys.
#include "kernels/common/device_math.cuh"
#include "kernels/cuda_kernels.h"
#include "kernels/kv_cache/kv_plane.cuh"

namespace lockstep::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kShare = 32;  // blocks of a sequence and head

struct Windows {
  CompressKeysArgs args;
  KeyWindows fine;
  KeyWindows coarse;
};

template <typename T>
__device__ void compress(const CompressKeysArgs& args, const KeyWindows& windows, const TensorView& out,
                         int64_t s, int64_t head) {
  const auto* span = static_cast<const int32_t*>(args.spans.data) + 2 * s;
  const auto* pages =
      row<const int32_t>(args.page_table, static_cast<const int32_t*>(args.table_rows.data)[s]);
  const auto* compressed =
      row<const int32_t>(args.compressed_table, static_cast<const int32_t*>(args.compressed_rows.data)[s]);
  const T* keys = static_cast<const T*>(args.cache.k.data);
  const int64_t end = windows.complete(int64_t{span[0]} + span[1]), per_page = dim(out, 2);
  for (int64_t j = windows.complete(span[0]) + blockIdx.y; j < end; j += kShare) {
    const int64_t at_row = j + 1;
    T* to = at<T>(out, compressed[at_row / per_page], head) + at_row % per_page * out.strides[2];
    for (int64_t d = threadIdx.x; d < args.cache.head_dim; d += kThreads) {
      const int64_t within = within_head(args.cache.k, d);
      float sum = 0.0f;
#pragma unroll 8
      for (int64_t token = j * windows.stride; token < windows.end(j); ++token) {
        const int64_t page = pages[token / args.cache.page_tokens];
        sum += to_float(keys[head_at(args.cache.k, page, head, token % args.cache.page_tokens) + within]);
      }
      to[d] = from_float<T>(sum / static_cast<float>(windows.tokens));
    }
  }
}

template <typename T>
__global__ void __launch_bounds__(kThreads) compress_sequences(const __grid_constant__ Windows of) {
  const CompressKeysArgs& args = of.args;
  const int64_t s = blockIdx.x / args.cache.heads, head = blockIdx.x % args.cache.heads;
  if (s >= live(args.num_seqs, dim(args.spans, 0)) / args.parts) return;
  compress<T>(args, of.fine, args.k1, s, head);
  compress<T>(args, of.coarse, args.k2, s, head);
}

}  // namespace

void compress_keys(const CompressKeysArgs& args, Worker worker) {
  with_element(args.cache.dtype, [&]<typename T>() {
    launch_grid(worker, compress_sequences<T>,
                {blocks_of(args.spans.dim(0) * args.cache.heads, kShare), kThreads},
                {args, kFineWindows, kCoarseWindows});
  });
}

}  // namespace lockstep::cuda
