// Block-sparse attention by the tensor cores, over bf16 caches: a cluster of blocks attends for one row and
// key head, whose up to 16 query heads are the rows of every product. Each warp walks its own blocks of the
// list, 16 tokens at a time, straight from memory into the operands of products: which elements of a head and
// which tokens are called neighbours does not matter as long as both sides do the same. Queries and weights
// go in as two bf16 numbers each, which keeps 16 bits of them. The warps' sums join in a fixed order.
#include <cooperative_groups.h>

#include "kernels/cuda_kernels.h"
#include "kernels/kv_cache/kv_plane.cuh"
#include "kernels/sparse_attention/row_list.cuh"

namespace lockstep::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kThreads = kWarps * kWarp;
constexpr int kCluster = 8;
constexpr int kHeads = 16;  // of queries in a product
constexpr int kTile = 16;   // tokens
constexpr float kLog2E = 1.44269504f;

// The sums of one warp, and of a block.
template <int D>
struct Part {
  float top[kHeads];
  float total[kHeads];
  float out[kHeads][D];
};
template <int D>
struct Shared {
  uint4 query[D / 16][2][kWarp];  // operands by step, high and low halves
  Part<D> warps[kWarps];
  Part<D> block;
};

__device__ uint32_t pack(float a, float b) {
  const __nv_bfloat162 both = __floats2bfloat162_rn(a, b);
  return reinterpret_cast<const uint32_t&>(both);
}
// What rounding to bf16 leaves of a number, in bf16.
__device__ float rest(float x) { return x - __bfloat162float(__float2bfloat16_rn(x)); }

__device__ void multiply_add(float (&sums)[4], const uint4& a, uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b0), "r"(b1));
}

// Queries as operands of heads lane / 4 and lane / 4 + 8. A pair of steps takes 32 elements, eight
// neighbouring ones in each lane, the way keys are loaded.
template <int D>
__device__ void load_query(const SparseAttentionArgs& args, int64_t t, int64_t first, int heads,
                           Shared<D>& shared) {
  const int lane = threadIdx.x % kWarp;
  for (int s = threadIdx.x / kWarp; s < D / 16; s += kWarps) {
    uint32_t words[2][4];
    for (int i = 0; i < 4; ++i) {
      const int head = lane / 4 + i % 2 * 8, d = s / 2 * 32 + lane % 4 * 8 + s % 2 * 4 + i / 2 * 2;
      const float* q = head < heads ? at<const float>(args.q, t, first + head) + d : nullptr;
      const float factor = args.scale * kLog2E;
      const float even = q != nullptr ? q[0] * factor : 0.0f, odd = q != nullptr ? q[1] * factor : 0.0f;
      words[0][i] = pack(even, odd);
      words[1][i] = pack(rest(even), rest(odd));
    }
    for (int half = 0; half < 2; ++half)
      shared.query[s][half][lane] =
          make_uint4(words[half][0], words[half][1], words[half][2], words[half][3]);
  }
}

// Running sums of a warp: heads lane / 4 and lane / 4 + 8; of product 8 h + j the elements 64 h + 8 n + j of
// the head, n = lane % 4 * 2 and the next.
template <int D>
struct Sums {
  float top[2] = {-INFINITY, -INFINITY};
  float total[2] = {0.0f, 0.0f};  // this lane's share
  float out[D / 8][4] = {};

  // The scores of 16 tokens become weights, and the sums so far come to the new top.
  __device__ void weigh(float (&scores)[2][4]) {
    float before[2];
#pragma unroll
    for (int upper = 0; upper < 2; ++upper) {
      float best = fmaxf(fmaxf(scores[0][2 * upper], scores[0][2 * upper + 1]),
                         fmaxf(scores[1][2 * upper], scores[1][2 * upper + 1]));
      best = fmaxf(best, __shfl_xor_sync(kAllLanes, best, 1));
      best = fmaxf(fmaxf(best, __shfl_xor_sync(kAllLanes, best, 2)), top[upper]);
      const float zero = best == -INFINITY ? 0.0f : best;
      before[upper] = exp2f(top[upper] - zero);
      top[upper] = best;
      total[upper] *= before[upper];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        float& score = scores[i / 2][2 * upper + i % 2];
        score = exp2f(score - zero);
        total[upper] += score;
      }
    }
    if (__all_sync(kAllLanes, before[0] == 1.0f && before[1] == 1.0f)) return;
#pragma unroll
    for (int n = 0; n < D / 8; ++n) {
      out[n][0] *= before[0], out[n][1] *= before[0];
      out[n][2] *= before[1], out[n][3] *= before[1];
    }
  }
};

// 16 tokens of a block: K and V as they lie in memory, each lane's share.
template <int D>
struct Tile {
  uint4 keys[2][D / 32];    // of tokens lane / 4 and lane / 4 + 8
  uint4 values[4][D / 64];  // of tokens 2 c, 2 c + 1, 2 c + 8, 2 c + 9, c = lane % 4

  __device__ void load(const KvView& cache, const RowList& list, int64_t kv_head, int64_t first) {
    const int lane = threadIdx.x % kWarp;
    const int64_t page = list.pages[first / cache.page_tokens], token = first % cache.page_tokens;
    const int64_t last = list.visible - 1 - first;  // nothing behind it is read
    const auto* k = static_cast<const __nv_bfloat16*>(cache.k.data) + head_at(cache.k, page, kv_head, token);
    const auto* v = static_cast<const __nv_bfloat16*>(cache.v.data) + head_at(cache.v, page, kv_head, token);
#pragma unroll
    for (int n = 0; n < 2; ++n) {
      const int64_t own = lane / 4 + 8 * n;
      const auto* from = k + (own < last ? own : last) * cache.k.token_stride;
#pragma unroll
      for (int s = 0; s < D / 32; ++s)
        keys[n][s] = *reinterpret_cast<const uint4*>(from + within_head(cache.k, 32 * s + lane % 4 * 8));
    }
#pragma unroll
    for (int n = 0; n < 4; ++n) {
      const int64_t own = lane % 4 * 2 + n % 2 + n / 2 * 8;
      const auto* from = v + (own < last ? own : last) * cache.v.token_stride;
#pragma unroll
      for (int h = 0; h < D / 64; ++h)
        values[n][h] = *reinterpret_cast<const uint4*>(from + within_head(cache.v, 64 * h + lane / 4 * 8));
    }
  }

  __device__ void score(const Shared<D>& shared, int64_t left, float (&scores)[2][4]) const {
    const int lane = threadIdx.x % kWarp;
#pragma unroll
    for (int s = 0; s < D / 16; ++s) {
      const uint4 high = shared.query[s][0][lane], low = shared.query[s][1][lane];
#pragma unroll
      for (int n = 0; n < 2; ++n) {
        const uint4& key = keys[n][s / 2];
        const uint32_t b0 = s % 2 == 0 ? key.x : key.z, b1 = s % 2 == 0 ? key.y : key.w;
        multiply_add(scores[n], low, b0, b1);
        multiply_add(scores[n], high, b0, b1);
      }
    }
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      if (lane % 4 * 2 + i % 2 + i / 4 * 8 >= left) scores[i / 4][i % 4] = -INFINITY;
    }
  }

  __device__ void add_values(const float (&w)[2][4], Sums<D>& sums) const {
    const uint4 high = make_uint4(pack(w[0][0], w[0][1]), pack(w[0][2], w[0][3]), pack(w[1][0], w[1][1]),
                                  pack(w[1][2], w[1][3]));
    const uint4 low = make_uint4(pack(rest(w[0][0]), rest(w[0][1])), pack(rest(w[0][2]), rest(w[0][3])),
                                 pack(rest(w[1][0]), rest(w[1][1])), pack(rest(w[1][2]), rest(w[1][3])));
#pragma unroll
    for (int h = 0; h < D / 64; ++h) {
      const uint32_t* words[4];
#pragma unroll
      for (int n = 0; n < 4; ++n) words[n] = reinterpret_cast<const uint32_t*>(&values[n][h]);
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        const unsigned halves = j % 2 == 0 ? 0x5410u : 0x7632u;
        const uint32_t b0 = __byte_perm(words[0][j / 2], words[1][j / 2], halves);
        const uint32_t b1 = __byte_perm(words[2][j / 2], words[3][j / 2], halves);
        multiply_add(sums.out[8 * h + j], low, b0, b1);
        multiply_add(sums.out[8 * h + j], high, b0, b1);
      }
    }
  }
};

template <int D>
__device__ void show(Sums<D>& sums, Part<D>& part) {
  const int lane = threadIdx.x % kWarp;
#pragma unroll
  for (int upper = 0; upper < 2; ++upper) {
    const int head = lane / 4 + 8 * upper;
    float total = sums.total[upper];
    total += __shfl_xor_sync(kAllLanes, total, 1);
    total += __shfl_xor_sync(kAllLanes, total, 2);
    if (lane % 4 == 0) part.top[head] = sums.top[upper];
    if (lane % 4 == 0) part.total[head] = total;
#pragma unroll
    for (int n = 0; n < D / 8; ++n) {
      const int d = n / 8 * 64 + lane % 4 * 16 + n % 8;
      part.out[head][d] = sums.out[n][2 * upper];
      part.out[head][d + 8] = sums.out[n][2 * upper + 1];
    }
  }
}

// Joins C parts of one head in their order.
template <int C, int D>
struct Join {
  float top = -INFINITY;
  float total = 0.0f;
  float scale[C];

  __device__ Join(const Part<D>* const (&parts)[C], int head) {
#pragma unroll
    for (int i = 0; i < C; ++i) top = fmaxf(top, parts[i]->top[head]);
#pragma unroll
    for (int i = 0; i < C; ++i) {
      scale[i] = exp2f(parts[i]->top[head] - (top == -INFINITY ? 0.0f : top));
      total = __fmaf_rn(parts[i]->total[head], scale[i], total);
    }
  }
  __device__ float sum(const Part<D>* const (&parts)[C], int head, int d) const {
    float all = 0.0f;
#pragma unroll
    for (int i = 0; i < C; ++i) all = __fmaf_rn(parts[i]->out[head][d], scale[i], all);
    return all;
  }
};

template <int D>
__global__ void __cluster_dims__(kCluster, 1, 1) __launch_bounds__(kThreads)
    attend(const __grid_constant__ SparseAttentionArgs args) {
  extern __shared__ __align__(16) unsigned char memory[];
  auto& shared = *reinterpret_cast<Shared<D>*>(memory);
  const auto cluster = cooperative_groups::this_cluster();
  const int64_t t = blockIdx.x / kCluster, kv_head = blockIdx.y, group = dim(args.q, 1) / args.cache.heads;
  const int rank = static_cast<int>(blockIdx.x % kCluster), warp = threadIdx.x / kWarp;
  const RowList list(args, t, kv_head);
  const auto heads = static_cast<int>(group);
  if (list.count > 0) load_query<D>(args, t, kv_head * group, heads, shared);
  __syncthreads();
  Sums<D> sums;
  for (int64_t i = warp * kCluster + rank; i < list.count; i += kCluster * kWarps) {
    const int64_t block = list.block(i) * kBlock;
    for (int64_t first = block; first < block + kBlock && first < list.visible; first += kTile) {
      Tile<D> tile;
      tile.load(args.cache, list, kv_head, first);
      float scores[2][4] = {};
      tile.score(shared, list.visible - first, scores);
      sums.weigh(scores);
      tile.add_values(scores, sums);
    }
  }
  show<D>(sums, shared.warps[warp]);
  __syncthreads();
  const Part<D>* warps[kWarps];
  for (int i = 0; i < kWarps; ++i) warps[i] = &shared.warps[i];
  for (int i = threadIdx.x; i < heads * D; i += kThreads) {
    const int head = i / D, d = i % D;
    const Join<kWarps, D> join(warps, head);
    shared.block.out[head][d] = join.sum(warps, head, d);
    if (d == 0) shared.block.top[head] = join.top;
    if (d == 0) shared.block.total[head] = join.total;
  }
  cluster.sync();
  const Part<D>* blocks[kCluster];
  for (int i = 0; i < kCluster; ++i) blocks[i] = cluster.map_shared_rank(&shared.block, i);
  for (int head = rank; head < heads; head += kCluster) {
    const Join<kCluster, D> join(blocks, head);
    for (int d = threadIdx.x; d < D; d += kThreads)
      at<float>(args.out, t, kv_head * group + head)[d] =
          join.total == 0.0f ? 0.0f : join.sum(blocks, head, d) / join.total;
  }
  cluster.sync();  // the others may still read this block's sums
}

template <int D>
void attend_with(const SparseAttentionArgs& args, const Worker& worker) {
  allow_shared(worker, attend<D>, sizeof(Shared<D>));
  launch_grid(worker, attend<D>,
              {blocks_of(args.q.dim(0) * kCluster, args.cache.heads), kThreads, sizeof(Shared<D>)}, args);
}

}  // namespace

bool fits_matrices(const SparseAttentionArgs& args) {
  const KvView& cache = args.cache;
  const auto in_vectors = [](const KvPlane& plane) {
    return plane.chunk % 8 == 0 && plane.chunk_stride % 8 == 0 && plane.token_stride % 8 == 0 &&
           plane.head_stride % 8 == 0 && plane.page_stride % 8 == 0 &&
           reinterpret_cast<uintptr_t>(plane.data) % 16 == 0;
  };
  return cache.dtype == DType::kBF16 && (cache.head_dim == 64 || cache.head_dim == 128) &&
         args.q.dim(1) / cache.heads <= kHeads && cache.page_tokens % kTile == 0 && in_vectors(cache.k) &&
         in_vectors(cache.v);
}

void attend_by_matrices(const SparseAttentionArgs& args, const Worker& worker) {
  args.cache.head_dim == 64 ? attend_with<64>(args, worker) : attend_with<128>(args, worker);
}

}  // namespace lockstep::cuda
