// Rows one by one, each over its tokens in parts (attention_parts.h). A launch has about as many blocks as
// the device holds at once; each takes a stretch of all parts of all rows, in their order, by what they cost.
// In a part the warps of a block take turns with tiles of 16 tokens and join their sums in a fixed order; a
// second launch joins the parts of each row likewise. So a row's bits depend on its own sequence alone, and
// the grid on shapes.
//
// What limits it is reading the cache. Every warp has a ring of tiles on their way, through the ends of parts
// and rows, so memory has work while warps multiply and join; and products may cost more: a query and a
// weight enter as the sum of three bf16 numbers, which holds all bits of f32. The first two parts of a query
// are the upper and lower half of the rows of one product, the third those of another.
#include "kernels/paged_attention/split_tile.cuh"

namespace lockstep::cuda {
namespace {

using namespace split;  // NOLINT

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / kWarp;
constexpr int kRound = kWarps * kSplitTile;  // tokens that the warps read in turn
constexpr int kMostBlocks = 264;             // two on each multiprocessor
constexpr int kPartCost = 2;                 // of joining and writing, in tiles
constexpr int kMostElements = 256;           // of a head
static_assert(kLeastPart % kRound == 0);

// Warps that share the sums of a part.
template <int W>
struct WarpSums {
  float top[kWarps][kHeads];
  float total[kWarps][kHeads];
  float out[kWarps][kHeads][W + 4];  // heads begin in different banks
};

// Shared memory of a block.
template <int W>
struct Shared {
  static constexpr int kStages = W <= 64 ? 4 : 2;
  Tile<W> ring[kWarps][kStages];
  WarpSums<W> sums[2];            // of one part while the other's are read
  int64_t before[kMostRows + 1];  // cost of the rows before
  SplitRow rows[kMostRows];
};

// The slab's heads of keys, and groups of query heads that share one.
struct Heads {
  int of_key;  // query heads of a key head
  int groups;  // of a key head
  int all;     // groups of all key heads
  __host__ __device__ explicit Heads(const PagedAttentionArgs& args)
      : of_key(static_cast<int>(args.q.shape.dims[1] / args.cache.heads)),
        groups((of_key + kHeads - 1) / kHeads),
        all(groups * args.cache.heads) {}
};

// One group of a row.
__device__ int64_t cost_of(int visible) {
  return (visible + kSplitTile - 1) / kSplitTile + parts_of(visible) * kPartCost;
}

// A part of a group of a row.
struct Part {
  int slab_row = 0;
  int group = 0;  // of all
  int part = 0;
  int first = 0;  // token
  int end = 0;    // first token behind
  int size = 0;   // tokens of the row's parts
};

// The parts of a block, in their order.
template <int W>
struct Work {
  const Shared<W>& shared;
  int count;    // rows
  int groups;   // of each
  int64_t end;  // cost at which the next block begins

  // Whether the part is this block's; if it is none, goes on to the next that is one.
  __device__ bool settle(Part& at) const {
    for (; at.slab_row < count; ++at.slab_row, at.group = 0) {
      const int visible = shared.rows[at.slab_row].visible;
      at.size = static_cast<int>(part_tokens(visible));
      for (; at.group < groups && visible > 0; ++at.group, at.part = 0) {
        at.first = at.part * at.size;
        at.end = at.first + at.size < visible ? at.first + at.size : visible;
        if (at.first >= visible) continue;
        const int64_t begin = shared.before[at.slab_row] + at.group * cost_of(visible) +
                              int64_t{at.part} * (at.size / kSplitTile + kPartCost);
        return begin < end;
      }
      at.part = 0;
    }
    return false;
  }
  __device__ bool next(Part& at) const {
    ++at.part;
    return settle(at);
  }
  // The first part that begins at `cost` or behind.
  __device__ bool begin(int64_t cost, Part& at) const {
    int low = 0, high = count;
    while (low < high) {  // the first row that ends behind
      const int middle = (low + high) / 2;
      if (shared.before[middle + 1] > cost) {
        high = middle;
      } else {
        low = middle + 1;
      }
    }
    at.slab_row = low;
    if (low >= count) return false;
    const int visible = shared.rows[low].visible;
    const int64_t left = cost - shared.before[low], of_group = cost_of(visible),
                  of_part = part_tokens(visible) / kSplitTile + kPartCost;
    at.group = static_cast<int>(left / of_group);
    at.part = static_cast<int>((left % of_group + of_part - 1) / of_part);
    return settle(at);
  }
};

// Finds the slab's rows and what those before each cost.
template <int W>
__device__ void find_rows(const SplitArgs& split, int groups, Shared<W>& shared) {
  for (int i = threadIdx.x; i < split.count; i += kThreads) shared.rows[i] = find_row(split, i);
  __syncthreads();
  if (threadIdx.x < kWarp) {
    constexpr int kShare = kMostRows / kWarp;
    const int lane = threadIdx.x, first = lane * kShare;
    int64_t cost[kShare], sum = 0;
#pragma unroll
    for (int i = 0; i < kShare; ++i) {
      cost[i] = first + i < split.count ? groups * cost_of(shared.rows[first + i].visible) : 0;
      sum += cost[i];
    }
    int64_t to = sum;  // the end of this lane's rows
    for (int offset = 1; offset < kWarp; offset *= 2) {
      const int64_t other = __shfl_up_sync(kAllLanes, to, offset);
      if (lane >= offset) to += other;
    }
    int64_t at = to - sum;
    if (lane == 0) shared.before[0] = 0;
#pragma unroll
    for (int i = 0; i < kShare; ++i) {
      at += cost[i];
      shared.before[first + i + 1] = at;
    }
  }
  __syncthreads();
}

// Sends a warp's tiles on their way, through all parts of the block; the page of the next one is looked up
// when this one goes.
template <bool kVectors, int W>
class Sender {
 public:
  __device__ Sender(const SplitArgs& split, const Work<W>& work, const Heads& heads, const Part& from,
                    bool any)
      : split_(split), work_(work), heads_(heads), part_(from), any_(any) {
    first_ = part_.first + static_cast<int>(threadIdx.x) / kWarp * kSplitTile;
    find_page();
  }
  __device__ void send(Tile<W>& tile) {
    if (any_) {
      const int count = part_.end - first_;
      fetch_tile<kVectors, W>(split_.args.cache, part_.group / heads_.groups, page_, in_page_, count, tile);
      first_ += kRound;
      find_page();
    }
    asm volatile("cp.async.commit_group;" ::: "memory");
  }

 private:
  __device__ void find_page() {
    while (any_ && first_ >= part_.end) {
      any_ = work_.next(part_);
      first_ = part_.first + static_cast<int>(threadIdx.x) / kWarp * kSplitTile;
    }
    if (!any_) return;
    const KvView& cache = split_.args.cache;
    const int position = first_ + static_cast<int>(threadIdx.x) % kSplitTile;
    if (position >= part_.end) return;
    const int index = position / cache.page_tokens;
    in_page_ = position - index * cache.page_tokens;
    page_ = row<const int32_t>(split_.args.page_table, work_.shared.rows[part_.slab_row].table)[index];
  }

  const SplitArgs& split_;
  const Work<W>& work_;
  const Heads& heads_;
  Part part_;
  bool any_;
  int first_ = 0;  // of the tile to send for
  int32_t page_ = 0;
  int in_page_ = 0;
};

template <int W>
__device__ void show(Sums<W>& sums, WarpSums<W>& shown) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, g = lane / 4, t = lane % 4;
  for (int offset = 1; offset < 4; offset *= 2) sums.total += __shfl_xor_sync(kAllLanes, sums.total, offset);
  if (t == 0) shown.top[warp][g] = sums.top;
  if (t == 0) shown.total[warp][g] = sums.total;
#pragma unroll
  for (int chunk = 0; chunk < W / 64; ++chunk) {
#pragma unroll
    for (int i = 0; i < 8; i += 4) {
      const auto& out = sums.out[chunk];
      auto* to = reinterpret_cast<float4*>(&shown.out[warp][g][chunk * 64 + 16 * t + i]);
      to[0] = make_float4(out[i][0], out[i + 1][0], out[i + 2][0], out[i + 3][0]);
      to[2] = make_float4(out[i][1], out[i + 1][1], out[i + 2][1], out[i + 3][1]);
    }
  }
}

// Joins the warps' sums of `heads` query heads. The first one's part lies at `to`, the others' `stride`
// floats apart; `top_at` is where its top lies.
template <int W>
__device__ void join_warps(const WarpSums<W>& shown, int heads, int64_t top_at, float* to, int64_t stride) {
  for (int g = 0; g < heads; ++g, to += stride) {
    float tops[kWarps], totals[kWarps], values[kWarps];
#pragma unroll
    for (int warp = 0; warp < kWarps; ++warp) {
      tops[warp] = shown.top[warp][g];
      totals[warp] = shown.total[warp][g];
    }
    const Join<kWarps> join(tops, totals);
    for (int d = threadIdx.x; d < top_at; d += kThreads) {  // zeros behind the head
#pragma unroll
      for (int warp = 0; warp < kWarps; ++warp) values[warp] = shown.out[warp][g][d];
      to[d] = join.sum(values);
    }
    if (threadIdx.x == 0) to[top_at] = join.top;
    if (threadIdx.x == 0) to[top_at + 1] = join.total;
  }
}

template <bool kVectors, int W>
__global__ void __launch_bounds__(kThreads, W <= 128 ? 2 : 1)
    attend_parts(const __grid_constant__ SplitArgs split) {
  extern __shared__ __align__(16) unsigned char memory[];
  auto& shared = *reinterpret_cast<Shared<W>*>(memory);
  constexpr int kStages = Shared<W>::kStages;
  const PagedAttentionArgs& args = split.args;
  const Heads heads(args);
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  await_launches();
  find_rows<W>(split, heads.all, shared);
  const int64_t cost = shared.before[split.count];
  const Work<W> work{shared, split.count, heads.all, cost * (blockIdx.x + 1) / gridDim.x};
  Part part;
  bool any = work.begin(cost * blockIdx.x / gridDim.x, part);
  Sender<kVectors, W> sender(split, work, heads, part, any);
  for (int stage = 0; stage < kStages; ++stage) sender.send(shared.ring[warp][stage]);
  Queries<W> queries;
  int stage = 0, row = -1, group = -1;
  for (int turn = 0; any; turn ^= 1) {
    const int64_t behind = part.group % heads.groups * kHeads;
    const int64_t first_head = int64_t{part.group} / heads.groups * heads.of_key + behind;
    const int count = static_cast<int>(heads.of_key - behind < kHeads ? heads.of_key - behind : kHeads);
    if (part.slab_row != row || part.group != group)
      queries.load(args, shared.rows[part.slab_row].t, first_head, count);
    row = part.slab_row, group = part.group;
    Sums<W> sums;
    for (int first = part.first + warp * kSplitTile; first < part.end; first += kRound) {
      Tile<W>& tile = shared.ring[warp][stage];
      asm volatile("cp.async.wait_group %0;" ::"n"(kStages - 1) : "memory");
      __syncwarp();
      float scores[4];
      score_tile<W>(queries, tile.keys, scores);
      weigh_tile<W>(part.end - first, scores, sums);
      add_values<W>(tile.values, scores, sums);
      __syncwarp();
      sender.send(tile);
      stage = stage + 1 == kStages ? 0 : stage + 1;
    }
    show<W>(sums, shared.sums[turn]);
    __syncthreads();
    const int64_t floats = part_floats(args.cache.head_dim);
    join_warps<W>(shared.sums[turn], count, part_top(args.cache.head_dim),
                  parts_at(split, part.slab_row, first_head) + part.part * floats, split.most_parts * floats);
    any = work.next(part);
  }
}

// The largest of a block, in every thread. All of them call it, once.
__device__ float block_larger(float x) {
  __shared__ float parts[kWarps];
  for (int offset = kWarp / 2; offset > 0; offset /= 2) x = larger(x, __shfl_xor_sync(kAllLanes, x, offset));
  if (threadIdx.x % kWarp == 0) parts[threadIdx.x / kWarp] = x;
  __syncthreads();
  for (const float part : parts) x = larger(x, part);
  return x;
}

// A block joins the parts of one query head of a row: its warps take turns with them.
__global__ void __launch_bounds__(kThreads) join_parts(const __grid_constant__ SplitArgs split) {
  constexpr int kColumns = kMostElements / 4 / kWarp;  // vectors of a lane
  __shared__ float scales[kMostParts];
  __shared__ float4 sums[kWarps][kMostElements / 4];
  static_assert(kMostParts <= kThreads);
  const PagedAttentionArgs& args = split.args;
  const int thread = static_cast<int>(threadIdx.x), lane = thread % kWarp, warp = thread / kWarp;
  const int64_t floats = part_floats(args.cache.head_dim), top_at = part_top(args.cache.head_dim);
  // All but what the launch before writes was there when it began.
  const SplitRow row = find_row(split, static_cast<int>(blockIdx.x));
  await_launches();
  if (!row.owned && split.rows == SplitRows::kOfSingles) return;
  const int parts = static_cast<int>(parts_of(row.visible));
  const float* from = parts_at(split, blockIdx.x, blockIdx.y);
  const bool has_part = thread < parts;
  const float own = has_part ? from[thread * floats + top_at] : -INFINITY, top = block_larger(own);
  const float scale = own == -INFINITY ? 0.0f : exp2f((own - top) * kLog2E);
  if (has_part) scales[thread] = scale;
  const float total = block_sum<kThreads>(has_part ? from[thread * floats + top_at + 1] * scale : 0.0f);
#pragma unroll
  for (int column = 0; column < kColumns; ++column) {
    const int at = column * kWarp + lane;
    if (at * 4 >= args.cache.head_dim) break;
    float4 sum = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
#pragma unroll 4
    for (int part = warp; part < parts; part += kWarps) {
      const float4 x = reinterpret_cast<const float4*>(from + part * floats)[at];
      sum.x = __fmaf_rn(x.x, scales[part], sum.x);
      sum.y = __fmaf_rn(x.y, scales[part], sum.y);
      sum.z = __fmaf_rn(x.z, scales[part], sum.z);
      sum.w = __fmaf_rn(x.w, scales[part], sum.w);
    }
    sums[warp][at] = sum;
  }
  __syncthreads();
  float* out = at<float>(args.out, row.t, blockIdx.y);
  for (int d = thread; d < args.cache.head_dim; d += kThreads) {
    float sum = 0.0f;
    for (const auto& of_warp : sums) sum += reinterpret_cast<const float*>(of_warp)[d];
    out[d] = total == 0.0f ? 0.0f : sum / total;
  }
}

// Without vectors one kernel serves all sizes: zeros past a head's end change no sum.
void attend_slab(const SplitArgs& split, const Worker& worker) {
  const KvView& cache = split.args.cache;
  const bool vectors = has_vectors(cache.k, cache.head_dim) && has_vectors(cache.v, cache.head_dim);
  const int64_t parts = int64_t{split.count} * Heads(split.args).all * split.most_parts;
  const auto with = [&]<bool kVectors, int W>() {
    const Grid grid{blocks_of(parts < kMostBlocks ? parts : kMostBlocks), kThreads, sizeof(Shared<W>)};
    allow_shared(worker, attend_parts<kVectors, W>, grid.shared_bytes);
    launch_early(worker, attend_parts<kVectors, W>, grid, split);
  };
  if (!vectors) {
    with.template operator()<false, 256>();
  } else if (cache.head_dim <= 64) {
    with.template operator()<true, 64>();
  } else if (cache.head_dim <= 128) {
    with.template operator()<true, 128>();
  } else if (cache.head_dim <= 192) {
    with.template operator()<true, 192>();
  } else {
    with.template operator()<true, 256>();
  }
  launch_early(worker, join_parts, {blocks_of(split.count, split.args.q.dim(1)), kThreads}, split);
}

}  // namespace

void attend_split(const PagedAttentionArgs& args, SplitRows rows, const Worker& worker) {
  const int64_t most = most_parts(args.page_table.dim(1) * args.cache.page_tokens);
  const int64_t room = args.workspace.dim(0) / row_parts_bytes(args.q.dim(1), args.cache.head_dim, most);
  const int64_t slab = room < kMostRows ? room : kMostRows;
  const int64_t all = rows == SplitRows::kAll ? args.q.dim(0) : args.seq_lens.dim(0);
  for (int64_t first = 0; first < all; first += slab) {
    attend_slab({.args = args,
                 .rows = rows,
                 .first = static_cast<int32_t>(first),
                 .count = static_cast<int32_t>(all - first < slab ? all - first : slab),
                 .most_parts = static_cast<int32_t>(most)},
                worker);
  }
}

}  // namespace lockstep::cuda
