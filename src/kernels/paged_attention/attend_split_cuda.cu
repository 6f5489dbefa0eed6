// A cluster of blocks attends for one row and the query heads that share a key head, on matrix units. Each
// warp walks its own tiles of 16 tokens, counted from position 0, with running sums; the warps' sums join in
// a fixed order. So a row's bits depend on its own sequence alone, and the grid on shapes.
//
// What limits it is reading the cache, so products may cost more: a query and a weight enter as the sum of
// three bf16 numbers, which holds all bits of f32. The first two parts are the upper and lower half of the
// rows of one product, the third those of another. Which element of a head a product takes as its k-th is
// free as long as both sides agree: lanes load 16 bytes of a token and use them as they come.
#include <cooperative_groups.h>

#include "kernels/paged_attention/cuda_attention.cuh"

namespace lockstep::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / kWarp;
constexpr int kCluster = 8;
constexpr int kTile = 16;  // tokens
constexpr int kHeads = 8;  // of q, at most

struct SplitArgs {
  PagedAttentionArgs args;
  SplitRows rows;
};

struct Problem {
  const int32_t* pages;
  int64_t t;  // row
  int64_t kv_head;
  int64_t first_head;  // of q
  int heads;           // of q that there are, at most kHeads
  int visible;         // tokens
};

// The bf16 parts of two numbers, side by side: all bits of f32 where it is finite.
struct Parts {
  uint32_t part[3];
  __device__ Parts(float x, float y) {
    uint32_t a[3], b[3];
    split(x, a);
    split(y, b);
    for (int i = 0; i < 3; ++i) part[i] = __byte_perm(a[i], b[i], 0x7632);
  }
  // Cut, not rounded: what is left over is exact, and never overflows.
  __device__ static void split(float x, uint32_t* parts) {
    for (int i = 0; i < 3; ++i) {
      parts[i] = __float_as_uint(x) & 0xFFFF0000u;
      x = isfinite(x) ? x - __uint_as_float(parts[i]) : 0.0f;
    }
  }
};

__device__ void multiply_add(float* c, uint4 a, uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b0), "r"(b1));
}

// Queries as a lane's share of products, for heads of at most W elements.
template <int W>
struct Queries {
  uint4 first_two[W / 16][kWarp];
  uint2 third[W / 16][kWarp];
};

// Sums of one block as it shows them to the cluster, and of its warps before.
template <int W>
struct Shown {
  union {
    Queries<W> queries;  // until the warps are done
    float out[kWarps][kHeads][W];
  };
  float top[kWarps][kHeads];
  float total[kWarps][kHeads];
  float joined_top[kHeads];
  float joined_total[kHeads];
  float joined[kHeads][W];
};

template <int W>
__device__ void fill_queries(const PagedAttentionArgs& args, const Problem& problem, Queries<W>& queries) {
  for (int i = threadIdx.x; i < W / 16 * kWarp; i += kThreads) {
    const int step = i / kWarp, lane = i % kWarp, g = lane / 4;
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

// Eight elements of a token's head from element d on, one by one; zeros past its end. Not inlined: the slow
// way is long.
__device__ __noinline__ uint4 gather_eight(const KvPlane& plane, int64_t token, int d, int head_dim) {
  const auto* data = static_cast<const uint16_t*>(plane.data);
  uint32_t words[4];
  for (int i = 0; i < 4; ++i) {
    const int e = d + 2 * i;
    const uint32_t low = e < head_dim ? data[token + within_head(plane, e)] : 0;
    const uint32_t high = e + 1 < head_dim ? data[token + within_head(plane, e + 1)] : 0;
    words[i] = low | high << 16;
  }
  return make_uint4(words[0], words[1], words[2], words[3]);
}

// The same, as one vector where there is one; zeros where there is no token.
template <bool kVectors>
__device__ uint4 load_eight(const KvPlane& plane, int64_t token, int d, int head_dim) {
  if (token < 0 || d >= head_dim) return make_uint4(0, 0, 0, 0);
  if constexpr (kVectors)
    return *(reinterpret_cast<const uint4*>(static_cast<const uint16_t*>(plane.data) + token + d));
  return gather_eight(plane, token, d, head_dim);
}

// Where the tokens of a tile lie that this lane reads: offsets of their heads, -1 where there are none.
struct Places {
  int64_t key[2];    // of tokens lane / 4 and 8 behind it
  int64_t value[4];  // of tokens 2 * (lane % 4) and the next, and 8 behind these

  __device__ Places(const KvView& cache, const Problem& problem, int first, int32_t page) {
    const int lane = threadIdx.x % kWarp, position = first + lane % kTile;
    int64_t k = -1, v = -1;
    if (position < problem.visible) {
      const int token = position % cache.page_tokens;
      k = head_at(cache.k, page, problem.kv_head, token);
      v = head_at(cache.v, page, problem.kv_head, token);
    }
    for (int i = 0; i < 2; ++i) key[i] = __shfl_sync(kAllLanes, k, lane / 4 + 8 * i);
    for (int i = 0; i < 4; ++i) value[i] = __shfl_sync(kAllLanes, v, 2 * (lane % 4) + i % 2 + i / 2 * 8);
  }
};

// The page of the tile's token that this lane looks up.
__device__ int32_t page_of(const KvView& cache, const Problem& problem, int first) {
  const int position = first + static_cast<int>(threadIdx.x) % kTile;
  return position < problem.visible ? problem.pages[position / cache.page_tokens] : 0;
}

template <int W>
struct Keys {
  uint4 words[W / 32][2];
  template <bool kVectors>
  __device__ void load(const KvView& cache, const Places& places) {
    const int d = static_cast<int>(threadIdx.x) % 4 * 8;
#pragma unroll
    for (int chunk = 0; chunk < W / 32; ++chunk) {
      for (int i = 0; i < 2; ++i)
        words[chunk][i] = load_eight<kVectors>(cache.k, places.key[i], chunk * 32 + d, cache.head_dim);
    }
  }
};

template <int W>
struct Values {
  uint4 words[W / 64][4];
  template <bool kVectors>
  __device__ void load(const KvView& cache, const Places& places) {
    const int d = static_cast<int>(threadIdx.x) % kWarp / 4 * 8;
#pragma unroll
    for (int chunk = 0; chunk < W / 64; ++chunk) {
      for (int i = 0; i < 4; ++i)
        words[chunk][i] = load_eight<kVectors>(cache.v, places.value[i], chunk * 64 + d, cache.head_dim);
    }
  }
  __device__ uint32_t word(int chunk, int token, int i) const {
    const uint4& four = words[chunk][token];
    return i == 0 ? four.x : i == 1 ? four.y : i == 2 ? four.z : four.w;
  }
};

// Running sums of head lane / 4: elements 16 * (lane % 4) and the next 15 of each 64, whose upper and lower
// halves are of the two parts of the weights.
template <int W>
struct Sums {
  float top = -INFINITY;
  float total = 0.0f;  // of this lane's tokens
  float out[W / 64][8][4] = {};
};

// Of head lane / 4 and the tokens that a lane has as Places::value.
template <int W>
__device__ void score_tile(const Queries<W>& queries, const Keys<W>& keys, float* scores) {
  const int lane = threadIdx.x % kWarp;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    float two[4] = {}, third[4] = {};
#pragma unroll
    for (int step = 0; step < W / 16; ++step) {
      const uint4 words = keys.words[step / 2][i];
      const uint32_t b0 = step % 2 == 0 ? words.x : words.z, b1 = step % 2 == 0 ? words.y : words.w;
      const uint2 low = queries.third[step][lane];
      multiply_add(two, queries.first_two[step][lane], b0, b1);
      multiply_add(third, make_uint4(low.x, 0, low.y, 0), b0, b1);
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
  const uint4 two = make_uint4(low.part[0], low.part[1], high.part[0], high.part[1]);
  const uint4 third = make_uint4(low.part[2], 0, high.part[2], 0);
#pragma unroll
  for (int chunk = 0; chunk < W / 64; ++chunk) {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const unsigned half = i % 2 == 0 ? 0x5410 : 0x7632;
      const uint32_t b0 = __byte_perm(values.word(chunk, 0, i / 2), values.word(chunk, 1, i / 2), half);
      const uint32_t b1 = __byte_perm(values.word(chunk, 2, i / 2), values.word(chunk, 3, i / 2), half);
      multiply_add(sums.out[chunk][i], two, b0, b1);
      multiply_add(sums.out[chunk][i], third, b0, b1);
    }
  }
}

template <bool kVectors, int W>
__device__ void attend(const KvView& cache, const Problem& problem, int part, const Queries<W>& queries,
                       Sums<W>& sums) {
  constexpr int kStride = kTile * kCluster * kWarps;
  int first = part * kTile;
  int32_t page = page_of(cache, problem, first);
  for (; first < problem.visible; first += kStride) {
    const Places places(cache, problem, first, page);
    Keys<W> keys;
    keys.template load<kVectors>(cache, places);
    Values<W> values;
    if constexpr (kVectors && W <= 128)
      values.template load<kVectors>(cache, places);  // on their way with the keys
    page = page_of(cache, problem, first + kStride);
    float scores[4];
    score_tile<W>(queries, keys, scores);
    if constexpr (!kVectors || W > 128) values.template load<kVectors>(cache, places);
    weigh_tile<W>(problem.visible - first, scores, sums);
    add_values<W>(values, scores, sums);
  }
}

template <int W>
__device__ void show(Sums<W>& sums, Shown<W>& shown) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, g = lane / 4, t = lane % 4;
  for (int offset = 1; offset < 4; offset *= 2) sums.total += __shfl_xor_sync(kAllLanes, sums.total, offset);
  __syncthreads();  // the queries have been read
  if (t == 0) shown.top[warp][g] = sums.top;
  if (t == 0) shown.total[warp][g] = sums.total;
#pragma unroll
  for (int chunk = 0; chunk < W / 64; ++chunk) {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const float* out = sums.out[chunk][i];
      shown.out[warp][g][chunk * 64 + 16 * t + i] = out[2] + out[0];
      shown.out[warp][g][chunk * 64 + 16 * t + 8 + i] = out[3] + out[1];
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

template <int W>
__device__ void join_warps(int heads, int head_dim, Shown<W>& shown) {
  for (int e = threadIdx.x; e < heads * head_dim; e += kThreads) {
    const int g = e / head_dim, d = e % head_dim;
    float tops[kWarps], totals[kWarps], values[kWarps];
    for (int part = 0; part < kWarps; ++part) {
      tops[part] = shown.top[part][g];
      totals[part] = shown.total[part][g];
      values[part] = shown.out[part][g][d];
    }
    const Join<kWarps> join(tops, totals);
    shown.joined[g][d] = join.sum(values);
    if (d == 0) shown.joined_top[g] = join.top;
    if (d == 0) shown.joined_total[g] = join.total;
  }
}

// Joins the blocks of the cluster, each an equal share of the elements.
template <int W>
__device__ void join_blocks(const PagedAttentionArgs& args, const Problem& problem, Shown<W>& shown) {
  const auto cluster = cooperative_groups::this_cluster();
  const int head_dim = args.cache.head_dim, rank = static_cast<int>(cluster.block_rank());
  for (int e = rank * kThreads + threadIdx.x; e < problem.heads * head_dim; e += kThreads * kCluster) {
    const int g = e / head_dim, d = e % head_dim;
    float tops[kCluster], totals[kCluster], values[kCluster];
#pragma unroll
    for (int part = 0; part < kCluster; ++part) {
      const auto* other = cluster.map_shared_rank(&shown, part);
      tops[part] = other->joined_top[g];
      totals[part] = other->joined_total[g];
      values[part] = other->joined[g][d];
    }
    const Join<kCluster> join(tops, totals);
    at<float>(args.out, problem.t, problem.first_head + g)[d] =
        join.total == 0.0f ? 0.0f : join.sum(values) / join.total;
  }
}

// The sequence of a block's row, or -1; sets the row. Where every sequence has one row, nobody searches.
__device__ int64_t find_row(const SplitArgs& split, int64_t index, int64_t& t) {
  const PagedAttentionArgs& args = split.args;
  const auto* starts = static_cast<const int32_t*>(args.query_start_loc.data);
  const int64_t seqs = live(args.num_seqs, dim(args.seq_lens, 0)), rows = live(args.num_rows, dim(args.q, 0));
  t = index;
  if (split.rows == SplitRows::kOfSingles) {
    if (index >= seqs) return -1;
    t = starts[index];
    return starts[index + 1] == t + 1 && t < rows ? index : -1;
  }
  if (t >= rows) return -1;
  if (t < seqs && starts[t] == t && starts[t + 1] == t + 1) return t;
  return owner_of(args.query_start_loc, seqs, t);
}

__device__ void write_zeros(const PagedAttentionArgs& args, const Problem& problem) {
  const int rank = static_cast<int>(blockIdx.x % kCluster), head_dim = args.cache.head_dim;
  for (int e = rank * kThreads + threadIdx.x; e < problem.heads * head_dim; e += kThreads * kCluster)
    at<float>(args.out, problem.t, problem.first_head + e / head_dim)[e % head_dim] = 0.0f;
}

template <bool kVectors, int W>
__global__ void __cluster_dims__(kCluster, 1, 1) __launch_bounds__(kThreads, W <= 128 ? 3 : 2)
    attend_rows(const __grid_constant__ SplitArgs split) {
  __shared__ Shown<W> shown;
  await_launches();
  const PagedAttentionArgs& args = split.args;
  const int64_t per_kv = dim(args.q, 1) / args.cache.heads, groups = (per_kv + kHeads - 1) / kHeads;
  const int64_t kv_head = blockIdx.y / groups, behind = blockIdx.y % groups * kHeads;
  Problem problem{.pages = nullptr, .t = 0, .kv_head = kv_head, .first_head = kv_head * per_kv + behind};
  problem.heads = static_cast<int>(per_kv - behind < kHeads ? per_kv - behind : kHeads);
  const int64_t s = find_row(split, blockIdx.x / kCluster, problem.t);
  if (s < 0) {  // for all blocks of the cluster
    if (split.rows == SplitRows::kAll) write_zeros(args, problem);
    return;
  }
  const auto* starts = static_cast<const int32_t*>(args.query_start_loc.data);
  problem.pages = row<const int32_t>(args.page_table, static_cast<const int32_t*>(args.table_rows.data)[s]);
  problem.visible =
      static_cast<int>(static_cast<const int32_t*>(args.seq_lens.data)[s] - (starts[s + 1] - 1 - problem.t));
  fill_queries<W>(args, problem, shown.queries);
  __syncthreads();
  Sums<W> sums;
  const int rank = static_cast<int>(blockIdx.x % kCluster), warp = static_cast<int>(threadIdx.x) / kWarp;
  attend<kVectors, W>(args.cache, problem, warp * kCluster + rank, shown.queries, sums);
  show<W>(sums, shown);
  join_warps<W>(problem.heads, args.cache.head_dim, shown);
  cooperative_groups::this_cluster().sync();
  join_blocks<W>(args, problem, shown);
  cooperative_groups::this_cluster().sync();  // the others may still read this block's sums
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
