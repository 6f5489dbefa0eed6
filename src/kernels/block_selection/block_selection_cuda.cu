// Two launches: one block counts the lists and says where they begin; then a cluster of blocks per list
// scores its windows, shares the blocks' scores with its first block, and that one chooses. Every number that
// decides is made by the operations of the reference in their order (block_selection.h), so lists are the
// same on every device.
#include <cooperative_groups.h>

#include "kernels/common/sequence_owner.cuh"
#include "kernels/compressed_keys/compressed_keys.h"
#include "kernels/cuda_kernels.h"
#include "kernels/linear/load_run.cuh"

namespace lockstep::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kCountThreads = 1024;
constexpr int kCluster = 8;
constexpr int kHeads = 8;          // products of a window that are summed side by side
constexpr int kTileBlocks = 31;    // blocks that a block of threads pools at a time ...
constexpr int kTileWindows = 125;  // ... from so many windows: four each, and the one before the first
constexpr int kSums = 16;

struct Selection {
  SelectBlocksArgs args;
  KeyWindows fine;
  KeyWindows coarse;
  int64_t room;  // blocks of the longest sequence
  int64_t padded_heads;
};

// simd_exp() of simd_math.h, operation by operation.
__device__ float exp_of(float x) {
  float bounded = 89.0f < x ? 89.0f : x;
  bounded = -88.0f > bounded ? -88.0f : bounded;
  const float power = rintf(__fmul_rn(bounded, 1.44269504f));
  float rest = __fmaf_rn(-power, 0.693359375f, bounded);
  rest = __fmaf_rn(-power, -2.12194440e-4f, rest);
  float series = 1.9875691500e-4f;
  series = __fmaf_rn(series, rest, 1.3981999507e-3f);
  series = __fmaf_rn(series, rest, 8.3334519073e-3f);
  series = __fmaf_rn(series, rest, 4.1665795894e-2f);
  series = __fmaf_rn(series, rest, 1.6666665459e-1f);
  series = __fmaf_rn(series, rest, 5.0000001201e-1f);
  series = __fadd_rn(__fmaf_rn(__fmul_rn(rest, rest), series, rest), 1.0f);
  if (x < -87.3365447f) return 0.0f;
  return isnan(x) ? x : ldexpf(series, static_cast<int>(power));
}

// Position of row t and the length of its lists; nothing where nobody owns it.
struct RowLists {
  int64_t sequence = -1;
  int64_t position = 0;
  int64_t count = 0;

  __device__ RowLists(const SelectBlocksArgs& args, int64_t t) {
    if (t >= live(args.num_rows, dim(args.q, 0))) return;
    sequence = owner_of(args.query_start_loc, live(args.num_seqs, dim(args.seq_lens, 0)), t);
    if (sequence < 0) return;
    const auto* starts = static_cast<const int32_t*>(args.query_start_loc.data);
    position = static_cast<const int32_t*>(args.seq_lens.data)[sequence] - (starts[sequence + 1] - t);
    const int64_t prompt = static_cast<const int32_t*>(args.prompt_lens.data)[sequence], own = holds();
    const int64_t length = prompt > position + 1 ? prompt : position + 1;
    count = length < args.dense_len ? 0 : own < args.most_blocks ? own : args.most_blocks;
  }
  // Blocks up to the row's own.
  __device__ int64_t holds() const { return position / kBlockTokens + 1; }
};

// One block: every thread takes a run of rows.
__global__ void __launch_bounds__(kCountThreads) count_lists(const __grid_constant__ Selection of) {
  __shared__ int64_t before[kCountThreads];
  const SelectBlocksArgs& args = of.args;
  const int64_t rows = dim(args.q, 0), heads = dim(args.k1, 1),
                share = (rows + kCountThreads - 1) / kCountThreads;
  const int64_t begin = threadIdx.x * share < rows ? threadIdx.x * share : rows;
  const int64_t end = begin + share < rows ? begin + share : rows;
  auto* counts = static_cast<int32_t*>(args.counts.data);
  auto* starts = static_cast<int32_t*>(args.starts.data);
  int64_t sum = 0;
  for (int64_t t = begin; t < end; ++t) {
    const int64_t count = RowLists(args, t).count;
    for (int64_t h = 0; h < heads; ++h) counts[t * heads + h] = static_cast<int32_t>(count);
    sum += count * heads;
  }
  before[threadIdx.x] = sum;
  __syncthreads();
  for (int offset = 1; offset < kCountThreads; offset *= 2) {
    const int64_t other = static_cast<int>(threadIdx.x) >= offset ? before[threadIdx.x - offset] : 0;
    __syncthreads();
    before[threadIdx.x] += other;
    __syncthreads();
  }
  int64_t at = before[threadIdx.x] - sum;
  for (int64_t list = begin * heads; list < end * heads; ++list) {
    starts[list] = static_cast<int32_t>(at);
    at += counts[list];
  }
  if (threadIdx.x == kCountThreads - 1) starts[rows * heads] = static_cast<int32_t>(before[threadIdx.x]);
}

// What the blocks of a cluster keep in shared memory; pooled [room], coarse [room] and the queries
// [D, padded heads] lie behind it.
struct Scores {
  float maxima[kMostGroupHeads];
  float inverses[kMostGroupHeads];
  float windows[kThreads];
  float top[kThreads / kWarp];
};

// One list as its cluster sees it.
template <typename T>
struct List {
  const Selection& of;
  const int32_t* pages;
  int64_t t;
  int64_t kv_head;
  int64_t position;
  Scores& scores;
  float* pooled;
  float* coarse;
  float* query;  // [D, padded heads]: zeros where there is no head

  __device__ int64_t heads() const { return dim(of.args.q, 1) / dim(of.args.k1, 1); }
  __device__ int rank() const { return static_cast<int>(blockIdx.x % kCluster); }

  __device__ void load_query() const {
    const int64_t size = dim(of.args.q, 2) * of.padded_heads;
    for (int64_t i = threadIdx.x; i < size; i += kThreads) {
      const int64_t h = i % of.padded_heads, d = i / of.padded_heads;
      query[i] = h < heads() ? at<const float>(of.args.q, t, kv_head * heads() + h)[d] : 0.0f;
    }
    __syncthreads();
  }

  __device__ const T* window(const TensorView& keys, int64_t j) const {
    const int64_t index = j + 1, per_page = dim(keys, 2);
    return at<const T>(keys, pages[index / per_page], kv_head) + index % per_page * keys.strides[2];
  }

  // scale * q[h] · key for N heads from `first` on: one chain over d each.
  template <int N>
  __device__ void multiply(const T* key, int64_t first, float* products) const {
    const int64_t size = dim(of.args.q, 2);
    const bool aligned = size % kRun == 0 && reinterpret_cast<uintptr_t>(key) % 16 == 0;
    for (int n = 0; n < N; ++n) products[n] = 0.0f;
    for (int64_t d = 0; d < size; d += kRun) {
      float elements[kRun];
      aligned ? load_run<true>(key, d, size, elements) : load_run<false>(key, d, size, elements);
#pragma unroll
      for (int i = 0; i < kRun; ++i) {
        if (d + i >= size) break;
        const float* asked = query + (d + i) * of.padded_heads + first;
#pragma unroll
        for (int n = 0; n < N; ++n) products[n] = __fmaf_rn(asked[n], elements[i], products[n]);
      }
    }
    for (int n = 0; n < N; ++n) products[n] = __fmul_rn(products[n], of.args.scale);
  }

  // The largest product of head h with a window of K2, and 1 / the sum of exp, into every block's scores.
  __device__ void normalise(int64_t h) const {
    const auto cluster = cooperative_groups::this_cluster();
    const int64_t windows = of.coarse.complete(position + 1);
    float top = -INFINITY;
    for (int64_t j = threadIdx.x; j < windows; j += kThreads) {
      float product;
      multiply<1>(window(of.args.k2, j), h, &product);
      coarse[j] = product;
      top = fmaxf(top, product);
    }
    for (int offset = kWarp / 2; offset > 0; offset /= 2)
      top = fmaxf(top, __shfl_xor_sync(kAllLanes, top, offset));
    if (threadIdx.x % kWarp == 0) scores.top[threadIdx.x / kWarp] = top;
    __syncthreads();
    for (int i = 0; i < kThreads / kWarp; ++i) top = fmaxf(top, scores.top[i]);
    for (int64_t j = threadIdx.x; j < windows; j += kThreads) coarse[j] = exp_of(__fsub_rn(coarse[j], top));
    __syncthreads();
    if (threadIdx.x < kWarp) {
      float sum = 0.0f;
      for (int64_t j = threadIdx.x; threadIdx.x < kSums && j < windows; j += kSums)
        sum = __fadd_rn(sum, coarse[j]);
      for (int half = kSums / 2; half > 0; half /= 2)
        sum = __fadd_rn(sum, __shfl_down_sync(kAllLanes, sum, half));
      sum = __shfl_sync(kAllLanes, __fdiv_rn(1.0f, sum), 0);
      if (threadIdx.x < kCluster) {
        auto* there = cluster.map_shared_rank(&scores, static_cast<int>(threadIdx.x));
        there->maxima[h] = top;
        there->inverses[h] = sum;
      }
    }
    __syncthreads();  // before the next head's products
  }

  // The score of window j over all heads, ascending.
  __device__ float score(int64_t j) const {
    const T* key = window(of.args.k1, j);
    float sum = 0.0f;
    for (int64_t first = 0; first < heads(); first += kHeads) {
      float products[kHeads];
      multiply<kHeads>(key, first, products);
#pragma unroll
      for (int n = 0; n < kHeads; ++n) {
        if (first + n >= heads()) break;
        const float weight = exp_of(__fsub_rn(products[n], scores.maxima[first + n]));
        sum = __fadd_rn(sum, __fmul_rn(weight, scores.inverses[first + n]));
      }
    }
    return isnan(sum) ? 0.0f : sum;
  }

  // Scores of this block's share of the blocks, into the first block's `pooled`.
  __device__ void pool() const {
    auto* to = cooperative_groups::this_cluster().map_shared_rank(pooled, 0);
    const int64_t blocks = position / kBlockTokens + 1, windows = of.fine.complete(position + 1);
    for (int64_t b = int64_t{rank()} * kTileBlocks; b < blocks; b += int64_t{kCluster} * kTileBlocks) {
      const int64_t j = 4 * b - 1 + threadIdx.x;
      const bool there = threadIdx.x < kTileWindows && j >= 0 && j < windows;
      scores.windows[threadIdx.x] = there ? score(j) : 0.0f;
      __syncthreads();
      if (threadIdx.x < kTileBlocks && b + threadIdx.x < blocks) {
        float best = 0.0f;  // no score is below
        for (int i = 0; i < 5; ++i) best = fmaxf(best, scores.windows[4 * threadIdx.x + i]);
        to[b + threadIdx.x] = best;
      }
      __syncthreads();
    }
  }

  // As choose_blocks(): the largest score that does not fit, by its bits from the highest on, which order
  // numbers that are not negative.
  __device__ uint32_t first_without_room(int64_t first, int64_t last, int64_t free) const {
    uint32_t found = 0;
    for (int bit = 30; bit >= 0; --bit) {
      const uint32_t tried = found | 1u << bit;
      int count = 0;
      for (int64_t b = first + threadIdx.x; b < last; b += kThreads)
        count += __float_as_uint(pooled[b]) >= tried;
      if (block_sum<kThreads>(count) > free) found = tried;
    }
    return found;
  }

  __device__ void choose(int64_t count, int32_t* out) const {
    const int64_t own = position / kBlockTokens, first = of.args.init_blocks;
    const int64_t last = own - of.args.window_blocks, free = count - (own + 1 - (last - first));
    const uint32_t least = first_without_room(first, last, free);
    int above = 0;
    for (int64_t b = first + threadIdx.x; b < last; b += kThreads)
      above += __float_as_uint(pooled[b]) > least;
    int64_t ties = free - block_sum<kThreads>(above);
    if (threadIdx.x >= kWarp) return;
    const unsigned lower = (1u << threadIdx.x) - 1;
    for (int64_t begin = 0; begin <= own; begin += kWarp) {
      const int64_t b = begin + threadIdx.x;
      const bool decided = b >= first && b < last;
      const uint32_t bits = decided ? __float_as_uint(pooled[b]) : 0;
      const unsigned equal = __ballot_sync(kAllLanes, decided && bits == least);
      const bool tie = decided && bits == least && __popc(equal & lower) < ties;
      const bool in = b <= own && (!decided || tie || bits > least);
      const unsigned chosen = __ballot_sync(kAllLanes, in);
      if (in) out[__popc(chosen & lower)] = static_cast<int32_t>(b);
      out += __popc(chosen);
      ties -= ties < __popc(equal) ? ties : __popc(equal);
    }
  }
};

// Zeros where no list is: each cluster does the part of the entries that its list could have had.
__device__ void clear_rest(const SelectBlocksArgs& args, int64_t list, int64_t lists) {
  const int64_t total = static_cast<const int32_t*>(args.starts.data)[lists];
  const int64_t begin = list * args.most_blocks, end = begin + args.most_blocks;
  for (int64_t i = begin + threadIdx.x; i < end; i += kThreads) {
    if (i >= total) static_cast<int32_t*>(args.blocks.data)[i] = 0;
  }
}

template <typename T>
__global__ void __cluster_dims__(kCluster, 1, 1) __launch_bounds__(kThreads)
    fill_lists(const __grid_constant__ Selection of) {
  extern __shared__ __align__(16) unsigned char memory[];
  const SelectBlocksArgs& args = of.args;
  const int64_t heads = dim(args.k1, 1), index = blockIdx.x / kCluster;
  const bool is_first = blockIdx.x % kCluster == 0;
  if (is_first) clear_rest(args, index, dim(args.q, 0) * heads);
  const RowLists lists(args, index / heads);
  if (lists.count == 0) return;  // the whole cluster
  int32_t* out =
      static_cast<int32_t*>(args.blocks.data) + static_cast<const int32_t*>(args.starts.data)[index];
  if (lists.count == lists.holds()) {
    for (int64_t b = threadIdx.x; is_first && b < lists.count; b += kThreads)
      out[b] = static_cast<int32_t>(b);
    return;
  }
  auto* pooled = reinterpret_cast<float*>(memory + sizeof(Scores));
  const List<T> list{.of = of,
                     .pages = row<const int32_t>(
                         args.page_table, static_cast<const int32_t*>(args.table_rows.data)[lists.sequence]),
                     .t = index / heads,
                     .kv_head = index % heads,
                     .position = lists.position,
                     .scores = *reinterpret_cast<Scores*>(memory),
                     .pooled = pooled,
                     .coarse = pooled + of.room,
                     .query = pooled + 2 * of.room};
  const auto cluster = cooperative_groups::this_cluster();
  cluster.sync();  // nobody writes to a block that has not begun
  list.load_query();
  for (int64_t h = list.rank(); h < list.heads(); h += kCluster) list.normalise(h);
  cluster.sync();
  list.pool();
  cluster.sync();
  if (is_first) list.choose(lists.count, out);
}

}  // namespace

void select_blocks(const SelectBlocksArgs& args, Worker worker) {
  const int64_t group = args.q.dim(1) / args.k1.dim(1);
  const Selection of{.args = args,
                     .fine = kFineWindows,
                     .coarse = kCoarseWindows,
                     .room = (args.page_table.dim(1) * args.k2.dim(2) + 3) / 4 * 4,
                     .padded_heads = (group + kHeads - 1) / kHeads * kHeads};
  const int64_t floats = 2 * of.room + args.q.dim(2) * of.padded_heads;
  const size_t bytes = sizeof(Scores) + static_cast<size_t>(floats) * sizeof(float);
  launch_grid(worker, count_lists, {blocks_of(1), kCountThreads}, of);
  with_element(args.k1.dtype, [&]<typename T>() {
    allow_shared(worker, fill_lists<T>, bytes);
    launch_grid(worker, fill_lists<T>, {blocks_of(args.counts.dim(0) * kCluster), kThreads, bytes}, of);
  });
}

}  // namespace lockstep::cuda
