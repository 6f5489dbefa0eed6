// Caches of f32 and f16: a cluster of blocks attends for one row and the query heads that share a key head.
// Each warp walks its own tiles of 16 tokens, counted from position 0, with running sums; the warps' sums
// join in a fixed order. So a row's bits depend on its own sequence alone, and the grid on shapes.
#include <cooperative_groups.h>

#include "kernels/cuda_kernels.h"
#include "kernels/paged_attention/cuda_attention.cuh"

namespace lockstep::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / kWarp;
constexpr int kCluster = 8;
constexpr int kTile = 16;  // tokens

// Sums of a warp's part of one row: G query heads, elements lane + 32 i of each.
template <int G, int N>
struct Sums {
  float top[G];
  float total[G];
  float out[G][N];
};

struct Problem {
  const int32_t* pages;
  int64_t visible;  // tokens
  int64_t kv_head;
  int64_t first_head;  // of q
  int64_t heads;       // of q that there are, at most G
};

// Sums over lanes of C values each: afterwards a lane holds the sum of value lane * C / 32 where C < 32, else
// of value `lane`.
template <int C>
__device__ float scatter_sums(float* values) {
  const int lane = threadIdx.x % kWarp;
  int held = C;
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    if (held == 1) {
      values[0] += __shfl_xor_sync(kAllLanes, values[0], offset);
      continue;
    }
    held /= 2;
    const bool upper = (lane & offset) != 0;
#pragma unroll
    for (int i = 0; i < C / 2; ++i) {
      if (i >= held) break;
      const float keep = upper ? values[held + i] : values[i];
      const float give = upper ? values[i] : values[held + i];
      values[i] = keep + __shfl_xor_sync(kAllLanes, give, offset);
    }
  }
  return values[0];
}

// Where the 16 tokens of a tile lie: offsets of their heads in both planes, in shared memory.
struct Places {
  int64_t k[kTile];
  int64_t v[kTile];
};

__device__ void find_places(const KvView& cache, const Problem& problem, int64_t first, Places& places) {
  const int lane = threadIdx.x % kWarp;
  const int64_t position = first + lane % kTile;
  if (position < problem.visible) {
    const int64_t page = problem.pages[position / cache.page_tokens], token = position % cache.page_tokens;
    if (lane < kTile) places.k[lane] = head_at(cache.k, page, problem.kv_head, token);
    if (lane >= kTile) places.v[lane - kTile] = head_at(cache.v, page, problem.kv_head, token);
  }
  __syncwarp();
}

// Element lane + 32 i of a head, for each i.
template <int N>
struct Elements {
  int64_t at[N];
  __device__ Elements(const KvPlane& plane, int64_t head_dim) {
    for (int i = 0; i < N; ++i) {
      const int64_t d = threadIdx.x % kWarp + kWarp * i;
      at[i] = d < head_dim ? within_head(plane, d) : -1;
    }
  }
};

template <typename T, int G, int N>
__device__ void score_tile(const KvView& cache, const Elements<N>& elements, const float (*q)[N],
                           const Places& places, int count, float* scores) {
  constexpr int kBatch = G * kTile < kWarp ? kTile : kWarp / G;  // tokens whose sums are made together
  const int lane = threadIdx.x % kWarp;
  const T* keys = static_cast<const T*>(cache.k.data);
#pragma unroll
  for (int first = 0; first < kTile; first += kBatch) {
    float values[kBatch * G];
#pragma unroll
    for (int j = 0; j < kBatch; ++j) {
      float key[N];
      const bool there = first + j < count;
#pragma unroll
      for (int i = 0; i < N; ++i)
        key[i] = there && elements.at[i] >= 0 ? to_float(keys[places.k[first + j] + elements.at[i]]) : 0.0f;
#pragma unroll
      for (int g = 0; g < G; ++g) {
        float sum = 0.0f;
#pragma unroll
        for (int i = 0; i < N; ++i) sum = __fmaf_rn(q[g][i], key[i], sum);
        values[j * G + g] = sum;
      }
    }
    const float sum = scatter_sums<kBatch * G>(values);
    constexpr int kShare = kWarp / (kBatch * G);  // lanes that hold the same sum
    const int value = lane / kShare;
    if (lane % kShare == 0) scores[value % G * kTile + first + value / G] = sum;
  }
  __syncwarp();
}

// Scores become weights, and the sums so far are brought to the new top. A score of -infinity weighs nothing.
template <int G, int N>
__device__ void weigh_tile(Sums<G, N>& sums, int count, float* scores) {
  const int lane = threadIdx.x % kWarp;
#pragma unroll
  for (int g = 0; g < G; ++g) {
    const float score = lane < count ? scores[g * kTile + lane] : -INFINITY;
    float top = score;
    for (int offset = kWarp / 2; offset > 0; offset /= 2)
      top = fmaxf(top, __shfl_xor_sync(kAllLanes, top, offset));
    // A maximum passes over NaN, and a row with one must not look whole.
    if (__any_sync(kAllLanes, isnan(score))) top = __int_as_float(0x7FC00000);
    top = larger(top, sums.top[g]);
    const float before = sums.top[g] == -INFINITY ? 0.0f : exp2f(sums.top[g] - top);
    const float weight = score == -INFINITY ? 0.0f : exp2f(score - top);
    if (lane < kTile) scores[g * kTile + lane] = weight;
    sums.total[g] = sums.total[g] * before + warp_sum(weight);
    sums.top[g] = top;
#pragma unroll
    for (int i = 0; i < N; ++i) sums.out[g][i] *= before;
  }
  __syncwarp();
}

template <typename T, int G, int N>
__device__ void add_values(const KvView& cache, const Elements<N>& elements, const Places& places, int count,
                           const float* weights, Sums<G, N>& sums) {
  const T* data = static_cast<const T*>(cache.v.data);
#pragma unroll 4
  for (int j = 0; j < count; ++j) {
    float value[N];
#pragma unroll
    for (int i = 0; i < N; ++i)
      value[i] = elements.at[i] >= 0 ? to_float(data[places.v[j] + elements.at[i]]) : 0.0f;
#pragma unroll
    for (int g = 0; g < G; ++g) {
      const float weight = weights[g * kTile + j];
#pragma unroll
      for (int i = 0; i < N; ++i) sums.out[g][i] = __fmaf_rn(weight, value[i], sums.out[g][i]);
    }
  }
  __syncwarp();
}

template <typename T, int G, int N>
__device__ void attend(const PagedAttentionArgs& args, const Problem& problem, int64_t t, int part,
                       Sums<G, N>& sums) {
  __shared__ Places places[kWarps];
  __shared__ float scores[kWarps][G * kTile];
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int64_t head_dim = args.cache.head_dim;
  const float scale = args.scale * kLog2E;  // scores are powers of two
  float q[G][N];
  for (int g = 0; g < G; ++g) {
    for (int i = 0; i < N; ++i) {
      const int64_t d = lane + kWarp * i;
      const bool there = g < problem.heads && d < head_dim;
      q[g][i] = there ? at<const float>(args.q, t, problem.first_head + g)[d] * scale : 0.0f;
    }
  }
  const Elements<N> keys(args.cache.k, head_dim), values(args.cache.v, head_dim);
  for (int64_t first = int64_t{part} * kTile; first < problem.visible;
       first += int64_t{kTile} * kCluster * kWarps) {
    const int64_t rest = problem.visible - first;
    const int count = rest < kTile ? static_cast<int>(rest) : kTile;
    find_places(args.cache, problem, first, places[warp]);
    score_tile<T, G, N>(args.cache, keys, q, places[warp], count, scores[warp]);
    weigh_tile<G, N>(sums, count, scores[warp]);
    add_values<T, G, N>(args.cache, values, places[warp], count, scores[warp], sums);
  }
}

// The sums of one block as it shows them to the cluster, and of its warps before.
template <int G, int N>
struct Shown {
  float top[kWarps][G];
  float total[kWarps][G];
  float out[kWarps][G][N * kWarp];
  float joined_top[G];
  float joined_total[G];
  float joined[G][N * kWarp];
};

template <int G, int N>
__device__ void show(const Sums<G, N>& sums, Shown<G, N>& shown) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
#pragma unroll
  for (int g = 0; g < G; ++g) {
    if (lane == 0) shown.top[warp][g] = sums.top[g];
    if (lane == 0) shown.total[warp][g] = sums.total[g];
#pragma unroll
    for (int i = 0; i < N; ++i) shown.out[warp][g][lane + kWarp * i] = sums.out[g][i];
  }
  __syncthreads();
}

template <int G, int N>
__device__ void join_warps(int64_t heads, int64_t head_dim, Shown<G, N>& shown) {
  for (int g = 0; g < heads; ++g) {
    float tops[kWarps], totals[kWarps], values[kWarps];
    for (int part = 0; part < kWarps; ++part) {
      tops[part] = shown.top[part][g];
      totals[part] = shown.total[part][g];
    }
    const Join<kWarps> join(tops, totals);
    for (int64_t d = threadIdx.x; d < head_dim; d += kThreads) {
      for (int part = 0; part < kWarps; ++part) values[part] = shown.out[part][g][d];
      shown.joined[g][d] = join.sum(values);
    }
    if (threadIdx.x == 0) shown.joined_top[g] = join.top;
    if (threadIdx.x == 0) shown.joined_total[g] = join.total;
  }
}

// Joins the blocks of the cluster. Each block does the heads g = its rank, rank + 8, ...
template <int G, int N>
__device__ void join_blocks(const PagedAttentionArgs& args, const Problem& problem, int64_t t,
                            Shown<G, N>& shown) {
  const auto cluster = cooperative_groups::this_cluster();
  for (int g = static_cast<int>(cluster.block_rank()); g < problem.heads; g += kCluster) {
    float tops[kCluster], totals[kCluster], values[kCluster];
#pragma unroll
    for (int part = 0; part < kCluster; ++part) {
      const auto* other = cluster.map_shared_rank(&shown, part);
      tops[part] = other->joined_top[g];
      totals[part] = other->joined_total[g];
    }
    const Join<kCluster> join(tops, totals);
    for (int64_t d = threadIdx.x; d < args.cache.head_dim; d += kThreads) {
#pragma unroll
      for (int part = 0; part < kCluster; ++part)
        values[part] = cluster.map_shared_rank(&shown, part)->joined[g][d];
      at<float>(args.out, t, problem.first_head + g)[d] =
          join.total == 0.0f ? 0.0f : join.sum(values) / join.total;
    }
  }
}

template <typename T, int G, int N>
__global__ void __cluster_dims__(kCluster, 1, 1) __launch_bounds__(kThreads)
    attend_rows(const __grid_constant__ PagedAttentionArgs args) {
  extern __shared__ __align__(16) unsigned char memory[];
  auto& shown = *reinterpret_cast<Shown<G, N>*>(memory);
  const int64_t t = blockIdx.x / kCluster, per_kv = dim(args.q, 1) / args.cache.heads;
  const int64_t groups = (per_kv + G - 1) / G, group = blockIdx.y % groups;
  Problem problem{
      .pages = nullptr, .visible = 0, .kv_head = blockIdx.y / groups, .first_head = 0, .heads = 0};
  problem.first_head = problem.kv_head * per_kv + group * G;
  problem.heads = per_kv - group * G < G ? per_kv - group * G : G;
  const bool is_live = t < live(args.num_rows, dim(args.q, 0));
  const int64_t s =
      is_live ? owner_of(args.query_start_loc, live(args.num_seqs, dim(args.seq_lens, 0)), t) : -1;
  if (s >= 0) {
    const auto* starts = static_cast<const int32_t*>(args.query_start_loc.data);
    const int64_t behind = starts[s + 1] - 1 - t;
    problem.visible = static_cast<const int32_t*>(args.seq_lens.data)[s] - behind;
    problem.pages = row<const int32_t>(args.page_table, static_cast<const int32_t*>(args.table_rows.data)[s]);
  }
  Sums<G, N> sums;
  for (int g = 0; g < G; ++g) {
    sums.top[g] = -INFINITY;
    sums.total[g] = 0.0f;
    for (int i = 0; i < N; ++i) sums.out[g][i] = 0.0f;
  }
  const auto rank = static_cast<int>(blockIdx.x % kCluster);
  attend<T, G, N>(args, problem, t, static_cast<int>(threadIdx.x / kWarp) * kCluster + rank, sums);
  show(sums, shown);
  join_warps(problem.heads, args.cache.head_dim, shown);
  cooperative_groups::this_cluster().sync();
  join_blocks(args, problem, t, shown);
  cooperative_groups::this_cluster().sync();  // the others may still read this block's sums
}

template <typename T, int G, int N>
void attend_with(const PagedAttentionArgs& args, const Worker& worker) {
  const int64_t per_kv = args.q.dim(1) / args.cache.heads, groups = (per_kv + G - 1) / G;
  launch_grid(worker, attend_rows<T, G, N>,
              {blocks_of(args.q.dim(0) * kCluster, args.cache.heads * groups), kThreads, sizeof(Shown<G, N>)},
              args);
}

template <typename T, int N>
void attend_by_heads(const PagedAttentionArgs& args, const Worker& worker) {
  const int64_t per_kv = args.q.dim(1) / args.cache.heads;
  if (per_kv == 1) return attend_with<T, 1, N>(args, worker);
  if (per_kv <= 4) return attend_with<T, 4, N>(args, worker);
  attend_with<T, 8, N>(args, worker);
}

template <typename T>
void attend_by_size(const PagedAttentionArgs& args, const Worker& worker) {
  if (args.cache.head_dim <= 4 * kWarp) return attend_by_heads<T, 4>(args, worker);
  attend_by_heads<T, 8>(args, worker);
}

}  // namespace

void paged_attention(const PagedAttentionArgs& args, Worker worker) {
  if (args.cache.dtype == DType::kF32) return attend_by_size<float>(args, worker);
  if (args.cache.dtype == DType::kF16) return attend_by_size<__half>(args, worker);
  if (args.query_len == 1 || !suits_tiles(args)) return attend_split(args, SplitRows::kAll, worker);
  attend_tiles(args, worker);
  attend_split(args, SplitRows::kOfSingles, worker);
}

}  // namespace lockstep::cuda
