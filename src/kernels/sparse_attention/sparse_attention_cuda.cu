// Where the tensor cores do not fit (sparse_matrix_cuda.cu), a block attends for one row and query head,
// plainly: each warp walks its own blocks of the row's list in pairs of 32 tokens with running sums, and the
// warps' sums join in a fixed order.
#include "kernels/common/sequence_owner.cuh"
#include "kernels/cuda_kernels.h"
#include "kernels/kv_cache/kv_plane.cuh"
#include "kernels/sparse_attention/row_list.cuh"

namespace lockstep::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarp;
constexpr int kMostElements = 256;  // of a head

struct Shared {
  float q[kMostElements];
  float top[kWarps];
  float total[kWarps];
  float out[kWarps][kMostElements];
};

// q · key, one chain over the elements as they lie in the plane.
template <typename T>
__device__ float product(const KvPlane& plane, int64_t key, const float* q, int64_t size) {
  const T* data = static_cast<const T*>(plane.data) + key;
  float sum = 0.0f;
  for (int64_t d = 0; d < size; d += plane.chunk, data += plane.chunk_stride) {
#pragma unroll 8
    for (int64_t i = 0; i < plane.chunk; ++i) sum = __fmaf_rn(q[d + i], to_float(data[i]), sum);
  }
  return sum;
}

// Running sums of a warp: elements lane + 32 i.
template <int N>
struct Sums {
  float top = -INFINITY;
  float total = 0.0f;
  float out[N] = {};

  // 32 tokens, one per lane: their score, -infinity where there is none, and where their values lie.
  template <typename T>
  __device__ void add(const KvView& cache, float score, int64_t value, int count) {
    float best = score;
    for (int offset = kWarp / 2; offset > 0; offset /= 2)
      best = fmaxf(best, __shfl_xor_sync(kAllLanes, best, offset));
    // A maximum passes over NaN, and a row with one must not look whole.
    if (__any_sync(kAllLanes, isnan(score)) || isnan(top)) best = __int_as_float(0x7FC00000);
    best = best < top ? top : best;
    const float before = top == -INFINITY ? 0.0f : expf(top - best);
    const float weight = score == -INFINITY ? 0.0f : expf(score - best);
    total = total * before + warp_sum(weight);
    top = best;
    for (int i = 0; i < N; ++i) out[i] *= before;
    for (int j = 0; j < count; ++j) {
      const float factor = __shfl_sync(kAllLanes, weight, j);
      const T* data = static_cast<const T*>(cache.v.data) + __shfl_sync(kAllLanes, value, j);
#pragma unroll
      for (int i = 0; i < N; ++i) {
        const int64_t d = threadIdx.x % kWarp + kWarp * i;
        if (d < cache.head_dim) out[i] = __fmaf_rn(factor, to_float(data[within_head(cache.v, d)]), out[i]);
      }
    }
  }
};

template <int N>
__device__ void join(const Sums<N>& sums, Shared& shared, int64_t size, float* out) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  if (lane == 0) shared.top[warp] = sums.top;
  if (lane == 0) shared.total[warp] = sums.total;
  for (int i = 0; i < N; ++i) shared.out[warp][lane + kWarp * i] = sums.out[i];
  __syncthreads();
  float top = -INFINITY, total = 0.0f, scale[kWarps];
  for (int w = 0; w < kWarps; ++w) top = isnan(shared.top[w]) || shared.top[w] > top ? shared.top[w] : top;
  for (int w = 0; w < kWarps; ++w) {
    scale[w] = shared.top[w] == -INFINITY ? 0.0f : expf(shared.top[w] - top);
    total = __fmaf_rn(shared.total[w], scale[w], total);
  }
  for (int64_t d = threadIdx.x; d < size; d += kThreads) {
    float sum = 0.0f;
    for (int w = 0; w < kWarps; ++w) sum = __fmaf_rn(shared.out[w][d], scale[w], sum);
    out[d] = total == 0.0f ? 0.0f : sum / total;
  }
}

template <typename T, int N>
__global__ void __launch_bounds__(kThreads) attend(const __grid_constant__ SparseAttentionArgs args) {
  __shared__ Shared shared;
  const KvView& cache = args.cache;
  const int64_t t = blockIdx.x, head = blockIdx.y, kv_head = head / (dim(args.q, 1) / cache.heads);
  const RowList list(args, t, kv_head);
  for (int64_t d = threadIdx.x; d < cache.head_dim; d += kThreads)
    shared.q[d] = list.visible > 0 ? at<const float>(args.q, t, head)[d] * args.scale : 0.0f;
  __syncthreads();
  Sums<N> sums;
  for (int64_t i = threadIdx.x / kWarp; i < list.count; i += kWarps) {
    for (int64_t first = list.block(i) * kBlock; first < (list.block(i) + 1) * kBlock; first += kWarp) {
      const int64_t left = list.visible - first, position = first + threadIdx.x % kWarp;
      if (left <= 0) break;
      float score = -INFINITY;
      int64_t value = 0;
      if (position < list.visible) {
        const int64_t page = list.pages[position / cache.page_tokens], token = position % cache.page_tokens;
        score = product<T>(cache.k, head_at(cache.k, page, kv_head, token), shared.q, cache.head_dim);
        value = head_at(cache.v, page, kv_head, token);
      }
      sums.template add<T>(cache, score, value, left < kWarp ? static_cast<int>(left) : kWarp);
    }
  }
  join(sums, shared, cache.head_dim, at<float>(args.out, t, head));
}

}  // namespace

void sparse_attention(const SparseAttentionArgs& args, Worker worker) {
  if (fits_matrices(args)) return attend_by_matrices(args, worker);
  const dim3 blocks = blocks_of(args.q.dim(0), args.q.dim(1));
  with_element(args.cache.dtype, [&]<typename T>() {
    if (args.cache.head_dim <= 4 * kWarp) {
      launch_grid(worker, attend<T, 4>, {blocks, kThreads}, args);
    } else {
      launch_grid(worker, attend<T, 8>, {blocks, kThreads}, args);
    }
  });
}

}  // namespace lockstep::cuda
