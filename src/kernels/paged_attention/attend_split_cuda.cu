// A cluster of blocks attends for one row and the query heads that share a key head, on matrix units. Each
// warp walks its own tiles of 16 tokens, counted from position 0, with running sums; the warps' sums join in
// a fixed order. So a row's bits depend on its own sequence alone, and the grid on shapes.
//
// What limits it is reading the cache, so products may cost more: a query and a weight enter as the sum of
// three bf16 numbers, which holds all bits of f32. The first two parts are the upper and lower half of the
// rows of one product, the third those of another. Which element of a head a product takes as its k-th is
// free as long as both sides agree: lanes load 16 bytes of a token and use them as they come.
#include <cooperative_groups.h>

#include "kernels/paged_attention/split_tile.cuh"

namespace lockstep::cuda {
namespace {

using namespace split;  // NOLINT

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / kWarp;
static_assert(kWarps == 4, "a float4 has one scale per warp");
constexpr int kCluster = 8;
constexpr int kHeads = 8;  // of q, at most

struct SplitArgs {
  PagedAttentionArgs args;
  SplitRows rows;
};

// Queries as a lane's share of products, for heads of at most W elements. Two parts are the upper and the
// lower rows of one.
template <int W>
struct Queries {
  uint4 first_two[W / 16][kWarp];
  uint2 third[W / 16][kWarp];
};

// Shared memory of a block. What other blocks of the cluster bring are their sums, joined over their warps:
// an equal share of the elements for each block to join.
template <int W>
struct Shared {
  union {
    Queries<W> queries;                // until the warps are done
    float out[kWarps][kHeads][W + 4];  // heads begin in different banks
  };
  float top[kWarps][kHeads];
  float total[kWarps][kHeads];
  float4 scale[kHeads];  // of the warps' sums
  float brought_top[kCluster][kHeads];
  float brought_total[kCluster][kHeads];
  float brought[kCluster][W];
};

template <int W>
__device__ void fill_queries(const PagedAttentionArgs& args, const Problem& problem, Queries<W>& queries) {
#pragma unroll
  for (int round = 0; round < W / 16 * kWarp / kThreads; ++round) {
    const int i = round * kThreads + static_cast<int>(threadIdx.x), step = i / kWarp, lane = i % kWarp,
              g = lane / 4;
    const int first = step / 2 * 32 + lane % 4 * 8 + step % 2 * 4;
    const float* q = at<const float>(args.q, problem.t, problem.first_head + (g < problem.heads ? g : 0));
    float x[4];
    for (int j = 0; j < 4; ++j)
      x[j] = g < problem.heads && first + j < args.cache.head_dim ? q[first + j] * args.scale : 0.0f;
    const Parts low(x[0], x[1]), high(x[2], x[3]);
    queries.first_two[step][lane] = make_uint4(low.part[0], low.part[1], high.part[0], high.part[1]);
    queries.third[step][lane] = make_uint2(low.part[2], high.part[2]);
  }
}

// Running sums of head lane / 4: elements 16 * (lane % 4) and the next 15 of each 64.
template <int W>
struct Sums {
  float top = -INFINITY;
  float total = 0.0f;  // of this lane's tokens
  float out[W / 64][8][2] = {};
};

// Of head lane / 4 and the tokens that a lane has as Places::value.
template <int W>
__device__ void score_tile(const Queries<W>& queries, const Keys<W>& keys, float* scores) {
  const int lane = threadIdx.x % kWarp;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    float two[4] = {}, third[2] = {};
#pragma unroll
    for (int step = 0; step < W / 16; ++step) {
      const uint4 words = keys.words[step / 2][i];
      const uint32_t b0 = step % 2 == 0 ? words.x : words.z, b1 = step % 2 == 0 ? words.y : words.w;
      multiply_all(two, queries.first_two[step][lane], b0, b1);
      multiply_upper(third, queries.third[step][lane], b0, b1);
    }
    for (int j = 0; j < 2; ++j) scores[2 * i + j] = third[j] + two[2 + j] + two[j];
  }
}

// Scores become weights, and the sums so far are brought to the new top. A score of -infinity weighs nothing;
// one that is no number makes the total none.
template <int W>
__device__ void weigh_tile(int count, float* scores, Sums<W>& sums) {
  float top = sums.top;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int token = 2 * static_cast<int>(threadIdx.x % 4) + i % 2 + i / 2 * 8;
    if (token >= count) scores[i] = -INFINITY;
    top = fmaxf(top, scores[i]);
  }
  for (int offset = 1; offset < 4; offset *= 2) top = fmaxf(top, __shfl_xor_sync(kAllLanes, top, offset));
  const float before = sums.top == -INFINITY ? 0.0f : exp2f((sums.top - top) * kLog2E);
  sums.total *= before;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    scores[i] = scores[i] == -INFINITY ? 0.0f : exp2f((scores[i] - top) * kLog2E);
    sums.total += scores[i];
  }
  sums.top = top;
#pragma unroll
  for (int chunk = 0; chunk < W / 64; ++chunk) {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      for (float& out : sums.out[chunk][i]) out *= before;
    }
  }
}

template <int W>
__device__ void add_values(const Values<W>& values, const float* weights, Sums<W>& sums) {
  const Parts low(weights[0], weights[1]), high(weights[2], weights[3]);
#pragma unroll
  for (int chunk = 0; chunk < W / 64; ++chunk) {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const unsigned half = i % 2 == 0 ? 0x5410 : 0x7632;
      const uint32_t b0 = __byte_perm(values.word(chunk, 0, i / 2), values.word(chunk, 1, i / 2), half);
      const uint32_t b1 = __byte_perm(values.word(chunk, 2, i / 2), values.word(chunk, 3, i / 2), half);
      for (int part = 2; part >= 0; --part)
        multiply_upper(sums.out[chunk][i], make_uint2(low.part[part], high.part[part]), b0, b1);
    }
  }
}

// Each round's keys are on their way during the round before, the first ones while the queries come.
template <bool kVectors, int W>
__device__ void attend(const PagedAttentionArgs& args, const Problem& problem, int part, Queries<W>& queries,
                       Sums<W>& sums) {
  constexpr int kStride = kSplitTile * kCluster * kWarps;
  constexpr bool kAhead = kVectors && W <= 128;  // else registers do not last
  const KvView& cache = args.cache;
  int first = part * kSplitTile;
  int32_t page = page_of(cache, problem, first);
  Places places(cache, problem, first, page);
  Keys<W> keys;
  keys.template load<kVectors>(cache, places);
  page = page_of(cache, problem, first + kStride);
  fill_queries<W>(args, problem, queries);
  __syncthreads();
  for (; first < problem.visible; first += kStride) {
    Values<W> values;
    if constexpr (kAhead) values.template load<kVectors>(cache, places);
    float scores[4];
    score_tile<W>(queries, keys, scores);
    if constexpr (!kAhead) values.template load<kVectors>(cache, places);
    places = Places(cache, problem, first + kStride, page);
    page = page_of(cache, problem, first + 2 * kStride);
    if constexpr (kAhead) keys.template load<kVectors>(cache, places);
    weigh_tile<W>(problem.visible - first, scores, sums);
    add_values<W>(values, scores, sums);
    if constexpr (!kAhead) keys.template load<kVectors>(cache, places);
  }
}

template <int W>
__device__ void show(Sums<W>& sums, Shared<W>& shared) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, g = lane / 4, t = lane % 4;
  for (int offset = 1; offset < 4; offset *= 2) sums.total += __shfl_xor_sync(kAllLanes, sums.total, offset);
  __syncthreads();  // the queries have been read
  if (t == 0) shared.top[warp][g] = sums.top;
  if (t == 0) shared.total[warp][g] = sums.total;
#pragma unroll
  for (int chunk = 0; chunk < W / 64; ++chunk) {
#pragma unroll
    for (int i = 0; i < 8; i += 4) {
      const auto& out = sums.out[chunk];
      auto* to = reinterpret_cast<float4*>(&shared.out[warp][g][chunk * 64 + 16 * t + i]);
      to[0] = make_float4(out[i][0], out[i + 1][0], out[i + 2][0], out[i + 3][0]);
      to[2] = make_float4(out[i][1], out[i + 1][1], out[i + 2][1], out[i + 3][1]);
    }
  }
  __syncthreads();
}

// Joins C parts in their order: totals and elements come to the top of all.
template <int C>
struct Join {
  float top = -INFINITY;
  float scale[C];
  float total = 0.0f;

  __device__ Join(const float (&tops)[C], const float (&totals)[C]) {
#pragma unroll
    for (int part = 0; part < C; ++part) top = fmaxf(top, tops[part]);
#pragma unroll
    for (int part = 0; part < C; ++part) {
      scale[part] = tops[part] == -INFINITY ? 0.0f : exp2f((tops[part] - top) * kLog2E);
      total = __fmaf_rn(totals[part], scale[part], total);
    }
  }
  __device__ float sum(const float (&values)[C]) const {
    float all = 0.0f;
#pragma unroll
    for (int part = 0; part < C; ++part) all = __fmaf_rn(values[part], scale[part], all);
    return all;
  }
};

// Elements of a row that each block of the cluster joins, in their order.
__device__ int share_of(int elements) { return (elements + kCluster - 1) / kCluster; }

// What each warp's sums of each head are multiplied with when they join; the head's top and total go to all
// blocks.
template <int W>
__device__ void join_heads(Shared<W>& shared) {
  const auto cluster = cooperative_groups::this_cluster();
  const int g = threadIdx.x / kCluster, other = threadIdx.x % kCluster;
  if (g >= kHeads) return;
  float tops[kWarps], totals[kWarps];
#pragma unroll
  for (int part = 0; part < kWarps; ++part) {
    tops[part] = shared.top[part][g];
    totals[part] = shared.total[part][g];
  }
  const Join<kWarps> join(tops, totals);
  if (other == 0) shared.scale[g] = make_float4(join.scale[0], join.scale[1], join.scale[2], join.scale[3]);
  auto* there = cluster.map_shared_rank(&shared, other);
  there->brought_top[cluster.block_rank()][g] = join.top;
  there->brought_total[cluster.block_rank()][g] = join.total;
}

// Brings the sums of this block's warps, joined, to the blocks that join them with the others'.
template <int W>
__device__ void bring_sums(int heads, int head_dim, Shared<W>& shared) {
  const auto cluster = cooperative_groups::this_cluster();
  const int rank = static_cast<int>(cluster.block_rank()), share = share_of(heads * head_dim);
#pragma unroll
  for (int round = 0; round < kHeads * W / kThreads; ++round) {
    const int i = round * kThreads + static_cast<int>(threadIdx.x), g = i / W, d = i % W,
              e = g * head_dim + d;
    if (g >= heads) return;
    if (d >= head_dim) continue;
    const float4 scale = shared.scale[g];
    float sum = shared.out[0][g][d] * scale.x;
    sum = __fmaf_rn(shared.out[1][g][d], scale.y, sum);
    sum = __fmaf_rn(shared.out[2][g][d], scale.z, sum);
    sum = __fmaf_rn(shared.out[3][g][d], scale.w, sum);
    const int owner = e / share;
    cluster.map_shared_rank(&shared, owner)->brought[rank][e - owner * share] = sum;
  }
}

template <int W>
__device__ void join_blocks(const PagedAttentionArgs& args, const Problem& problem, const Shared<W>& shared) {
  const int head_dim = args.cache.head_dim, elements = problem.heads * head_dim, share = share_of(elements);
  const int first = static_cast<int>(blockIdx.x % kCluster) * share;
  for (int i = threadIdx.x; i < share && first + i < elements; i += kThreads) {
    const int g = (first + i) / head_dim, d = (first + i) % head_dim;
    float tops[kCluster], totals[kCluster], values[kCluster];
#pragma unroll
    for (int part = 0; part < kCluster; ++part) {
      tops[part] = shared.brought_top[part][g];
      totals[part] = shared.brought_total[part][g];
      values[part] = shared.brought[part][i];
    }
    const Join<kCluster> join(tops, totals);
    at<float>(args.out, problem.t, problem.first_head + g)[d] =
        join.total == 0.0f ? 0.0f : join.sum(values) / join.total;
  }
}

// Finds the row of a block and its tokens. Where every sequence has one row, nobody searches. False: the row
// has no tokens here; `problem.t` is set.
__device__ bool find_row(const SplitArgs& split, int64_t index, Problem& problem) {
  const PagedAttentionArgs& args = split.args;
  const auto* starts = static_cast<const int32_t*>(args.query_start_loc.data);
  const auto* lens = static_cast<const int32_t*>(args.seq_lens.data);
  const auto* tables = static_cast<const int32_t*>(args.table_rows.data);
  // What is most likely wanted is asked for before anything is known.
  int64_t s = index < dim(args.seq_lens, 0) ? index : 0;
  int32_t begin = starts[s], end = starts[s + 1], len = lens[s], table = tables[s];
  const int64_t seqs = live(args.num_seqs, dim(args.seq_lens, 0)), rows = live(args.num_rows, dim(args.q, 0));
  problem.t = split.rows == SplitRows::kAll ? index : begin;
  if (problem.t >= rows) return false;
  const bool guessed = s == index && s < seqs && begin == problem.t && end == begin + 1;
  if (!guessed) {
    if (split.rows == SplitRows::kOfSingles) return false;
    s = owner_of(args.query_start_loc, seqs, problem.t);
    if (s < 0) return false;
    end = starts[s + 1], len = lens[s], table = tables[s];
  }
  problem.visible = static_cast<int>(len - (end - 1 - problem.t));
  problem.pages = row<const int32_t>(args.page_table, table);
  return true;
}

__device__ void write_zeros(const PagedAttentionArgs& args, const Problem& problem) {
  const int rank = static_cast<int>(blockIdx.x % kCluster), head_dim = args.cache.head_dim;
  for (int e = rank * kThreads + threadIdx.x; e < problem.heads * head_dim; e += kThreads * kCluster)
    at<float>(args.out, problem.t, problem.first_head + e / head_dim)[e % head_dim] = 0.0f;
}

template <bool kVectors, int W>
__global__ void __cluster_dims__(kCluster, 1, 1) __launch_bounds__(kThreads, W <= 128 ? 3 : 2)
    attend_rows(const __grid_constant__ SplitArgs split) {
  __shared__ Shared<W> shared;
  const auto cluster = cooperative_groups::this_cluster();
  cluster.barrier_arrive();  // its memory may be brought to
  const PagedAttentionArgs& args = split.args;
  const int64_t per_kv = dim(args.q, 1) / args.cache.heads, groups = (per_kv + kHeads - 1) / kHeads;
  const int64_t behind = blockIdx.y % groups * kHeads;
  Problem problem;
  problem.kv_head = blockIdx.y / groups;
  problem.first_head = problem.kv_head * per_kv + behind;
  problem.heads = static_cast<int>(per_kv - behind < kHeads ? per_kv - behind : kHeads);
  await_launches();
  if (!find_row(split, blockIdx.x / kCluster, problem)) {  // for all blocks of the cluster
    if (split.rows == SplitRows::kAll) write_zeros(args, problem);
    cluster.barrier_wait();
    return;
  }
  Sums<W> sums;
  const int rank = static_cast<int>(cluster.block_rank()), warp = static_cast<int>(threadIdx.x) / kWarp;
  attend<kVectors, W>(args, problem, warp * kCluster + rank, shared.queries, sums);
  show<W>(sums, shared);
  cluster.barrier_wait();
  join_heads<W>(shared);
  __syncthreads();
  bring_sums<W>(problem.heads, args.cache.head_dim, shared);
  cluster.sync();
  join_blocks<W>(args, problem, shared);
}

}  // namespace

// Without vectors one kernel serves all sizes: zeros past a head's end change no sum.
void attend_split(const PagedAttentionArgs& args, SplitRows rows, const Worker& worker) {
  const KvView& cache = args.cache;
  const SplitArgs split{.args = args, .rows = rows};
  const int64_t per_kv = args.q.dim(1) / args.cache.heads, groups = (per_kv + kHeads - 1) / kHeads;
  const int64_t count = rows == SplitRows::kAll ? args.q.dim(0) : args.seq_lens.dim(0);
  const Grid grid{blocks_of(count * kCluster, cache.heads * groups), kThreads};
  const bool vectors = has_vectors(cache.k, cache.head_dim) && has_vectors(cache.v, cache.head_dim);
  launch_early(worker,
               !vectors                ? attend_rows<false, 256>
               : cache.head_dim <= 64  ? attend_rows<true, 64>
               : cache.head_dim <= 128 ? attend_rows<true, 128>
               : cache.head_dim <= 192 ? attend_rows<true, 192>
                                       : attend_rows<true, 256>,
               grid, split);
}

}  // namespace lockstep::cuda
