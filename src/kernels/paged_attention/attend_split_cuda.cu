// Rows one by one, each over its tokens in parts (attention_parts.h). A launch has about as many blocks as
// the device holds at once; each team takes a stretch of all parts of all rows, in order, by what they cost.
// In a part the warps of a block take turns with tiles of 16 tokens and join their sums in a fixed order; a
// second launch joins the parts of each row likewise. So a row's bits depend on its own sequence alone, and
// the grid on shapes.
//
// What limits it is reading the cache. Every warp has a ring of tiles on their way, through the ends of parts
// and rows, so memory has work while warps multiply and join; and products may cost more: a query and a
// weight enter as the sum of three bf16 numbers, which holds all bits of f32. The first two parts of a query
// are the upper and lower half of the rows of one product, the third those of another.
#include <algorithm>

#include "kernels/paged_attention/split_tile.cuh"

namespace lockstep::cuda {
namespace {

using namespace split;  // NOLINT

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / kWarp;
constexpr int kRound = kWarps * kSplitTile;  // tokens that the warps read in turn
constexpr int kMostBlocks = 264;             // two on each multiprocessor
constexpr int kPartCost = 1;                 // of joining and writing, in rounds
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
  WarpSums<W> sums[2];  // of one part while the other's are read
  SplitRow rows[kMostRows];
  int cost[kMostRows];
  int before[kMostRows + 1];  // cost of the rows before
};

// Groups of query heads that share a key head. A team of blocks, one for each group, has the same tokens at
// about the same time: what is side by side in memory is read together.
struct Groups {
  int heads;   // of q that share a key head
  int of_key;  // groups
  int all;     // of all key heads
  __host__ __device__ explicit Groups(const PagedAttentionArgs& args)
      : heads(static_cast<int>(args.q.shape.dims[1] / args.cache.heads)),
        of_key((heads + kHeads - 1) / kHeads),
        all(of_key * args.cache.heads) {}
};

__device__ int cost_of_part(int tokens) { return (tokens + kRound - 1) / kRound + kPartCost; }

// A part of a row.
struct Part {
  int slab_row = 0;
  int part = 0;
  int first = 0;  // token
  int end = 0;    // first token behind
  int cost = 0;   // of all parts before
  SplitRow of;
  __device__ void cut() { end = first + of.size < of.visible ? first + of.size : of.visible; }
};

// The parts of a block, in their order.
template <int W>
struct Work {
  const Shared<W>& shared;
  int count;  // rows
  int end;    // cost at which the next team begins

  // Goes on to the next part, if that is this block's.
  __device__ bool next(Part& at) const {
    at.cost += cost_of_part(at.end - at.first);
    at.first = at.end;
    ++at.part;
    if (at.first >= at.of.visible) {
      at.first = at.part = 0;
      do {
        if (++at.slab_row >= count) return false;
      } while (shared.rows[at.slab_row].visible <= 0);
      at.of = shared.rows[at.slab_row];
    }
    at.cut();
    return at.cost < end;
  }
  // The first part that begins at `cost` or behind.
  __device__ bool begin(int cost, Part& at) const {
    int low = 0, high = count;
    while (low < high) {  // the first row that ends behind
      const int middle = (low + high) / 2;
      if (shared.before[middle + 1] > cost) {
        high = middle;
      } else {
        low = middle + 1;
      }
    }
    if (low >= count) return false;
    at.slab_row = low;
    at.of = shared.rows[low];
    const int of_part = cost_of_part(at.of.size);
    at.part = (cost - shared.before[low]) / of_part;
    at.first = at.part * at.of.size;
    at.cost = shared.before[low] + at.part * of_part;
    at.cut();
    return at.cost < cost ? next(at) : at.cost < end;
  }
};

// Finds the slab's rows and what those before each cost.
template <int W>
__device__ void find_rows(const SplitArgs& split, Shared<W>& shared) {
  for (int i = threadIdx.x; i < kMostRows; i += kThreads) {
    const SplitRow row = i < split.count ? find_row(split, i) : SplitRow{};
    const int parts = row.visible > 0 ? (row.visible - 1) / row.size + 1 : 0;
    shared.rows[i] = row;
    shared.cost[i] = (row.visible + kRound - 1) / kRound + parts * kPartCost;
  }
  __syncthreads();
  if (threadIdx.x < kWarp) {
    constexpr int kShare = kMostRows / kWarp;
    const int lane = threadIdx.x, first = lane * kShare;
    int sum = 0;
#pragma unroll
    for (int i = 0; i < kShare; ++i) sum += shared.cost[first + i];
    int to = sum;  // the end of this lane's rows
    for (int offset = 1; offset < kWarp; offset *= 2) {
      const int other = __shfl_up_sync(kAllLanes, to, offset);
      if (lane >= offset) to += other;
    }
    int at = to - sum;
    if (lane == 0) shared.before[0] = 0;
#pragma unroll
    for (int i = 0; i < kShare; ++i) {
      at += shared.cost[first + i];
      shared.before[first + i + 1] = at;
    }
  }
  __syncthreads();
}

// Sends a warp's tiles on their way, through all parts of the block; the page of the next one is looked up
// when this one goes.
template <Reads kReads, int W>
class Sender {
 public:
  __device__ Sender(const SplitArgs& split, const Work<W>& work, int kv_head, const Part& from, bool any)
      : split_(split), work_(work), kv_head_(kv_head), part_(from), any_(any) {
    begin_part();
    find_page();
  }
  __device__ void send(Tile<W>& tile) {
    if (any_) {
      fetch_tile<kReads, W>(split_.args.cache, kv_head_, page_, in_page_, part_.end - first_, tile);
      first_ += kRound;
      find_page();
    }
    asm volatile("cp.async.commit_group;" ::: "memory");
  }

 private:
  __device__ void begin_part() {
    first_ = part_.first + static_cast<int>(threadIdx.x) / kWarp * kSplitTile;
    pages_ = row<const int32_t>(split_.args.page_table, part_.of.table);
  }
  // Of a run, or of this lane's token.
  __device__ void find_page() {
    while (any_ && first_ >= part_.end) {  // this warp has nothing more of the part
      any_ = work_.next(part_);
      begin_part();
    }
    const int position = first_ + (kReads == Reads::kRuns ? 0 : static_cast<int>(threadIdx.x) % kSplitTile);
    if (!any_ || position >= part_.end) return;
    const auto page_tokens = static_cast<unsigned>(split_.args.cache.page_tokens);
    const unsigned index = static_cast<unsigned>(position) / page_tokens;
    in_page_ = static_cast<int>(static_cast<unsigned>(position) - index * page_tokens);
    page_ = pages_[index];
  }

  const SplitArgs& split_;
  const Work<W>& work_;
  const int kv_head_;
  Part part_;
  bool any_;
  int first_ = 0;  // of the tile to send for
  const int32_t* pages_ = nullptr;
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
      to[0] = make_float4(out[i][0] + out[i][2], out[i + 1][0] + out[i + 1][2], out[i + 2][0] + out[i + 2][2],
                          out[i + 3][0] + out[i + 3][2]);
      to[2] = make_float4(out[i][1] + out[i][3], out[i + 1][1] + out[i + 1][3], out[i + 2][1] + out[i + 2][3],
                          out[i + 3][1] + out[i + 3][3]);
    }
  }
}

__device__ void add_scaled(float4& sum, const float4& x, float scale) {
  sum.x = __fmaf_rn(x.x, scale, sum.x);
  sum.y = __fmaf_rn(x.y, scale, sum.y);
  sum.z = __fmaf_rn(x.z, scale, sum.z);
  sum.w = __fmaf_rn(x.w, scale, sum.w);
}

// Joins the warps' sums of `heads` query heads, which the warps share out. The first one's part lies at `to`,
// the others' `stride` floats apart; `top_at` is where its top lies.
template <int W>
__device__ void join_warps(const WarpSums<W>& shown, int heads, int64_t top_at, float* to, int64_t stride) {
  const int lane = threadIdx.x % kWarp;
  for (int g = static_cast<int>(threadIdx.x) / kWarp; g < heads; g += kWarps) {
    float tops[kWarps], totals[kWarps];
#pragma unroll
    for (int warp = 0; warp < kWarps; ++warp) {
      tops[warp] = shown.top[warp][g];
      totals[warp] = shown.total[warp][g];
    }
    const Join<kWarps> join(tops, totals);
    float* head = to + g * stride;
    for (int at = lane * 4; at < top_at; at += kWarp * 4) {  // zeros behind the head
      float4 sum = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
#pragma unroll
      for (int warp = 0; warp < kWarps; ++warp)
        add_scaled(sum, *reinterpret_cast<const float4*>(&shown.out[warp][g][at]), join.scale[warp]);
      *reinterpret_cast<float4*>(head + at) = sum;
    }
    if (lane == 0) *reinterpret_cast<float2*>(head + top_at) = make_float2(join.top, join.total);
  }
}

template <Reads kReads, int W>
__global__ void __launch_bounds__(kThreads, W <= 128 ? 2 : 1)
    attend_parts(const __grid_constant__ SplitArgs split) {
  extern __shared__ __align__(16) unsigned char memory[];
  auto& shared = *reinterpret_cast<Shared<W>*>(memory);
  constexpr int kStages = Shared<W>::kStages;
  const PagedAttentionArgs& args = split.args;
  const Groups groups(args);
  const int warp = static_cast<int>(threadIdx.x) / kWarp, group = static_cast<int>(blockIdx.x) % groups.all;
  const int kv_head = group / groups.of_key, behind = group % groups.of_key * kHeads;
  const int first_head = kv_head * groups.heads + behind;
  const int heads = groups.heads - behind < kHeads ? groups.heads - behind : kHeads;
  await_launches();
  find_rows<W>(split, shared);
  const auto cost_before = [&](unsigned team) {
    return static_cast<int>(int64_t{shared.before[kMostRows]} * team / (gridDim.x / groups.all));
  };
  const unsigned team = blockIdx.x / groups.all;
  const Work<W> work{shared, split.count, cost_before(team + 1)};
  Part part;
  bool any = work.begin(cost_before(team), part);
  Sender<kReads, W> sender(split, work, kv_head, part, any);
  for (int stage = 0; stage < kStages; ++stage) sender.send(shared.ring[warp][stage]);
  Queries<W> queries;
  int stage = 0, slab_row = -1;
  for (int turn = 0; any; turn ^= 1) {
    if (part.slab_row != slab_row) queries.load(args, part.of.t, first_head, heads);
    slab_row = part.slab_row;
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
    join_warps<W>(shared.sums[turn], heads, part_top(args.cache.head_dim),
                  parts_at(split, part.slab_row, first_head) + part.part * floats, split.most_parts * floats);
    any = work.next(part);
  }
}

// A warp joins the parts of one query head of a row.
__global__ void __launch_bounds__(kThreads) join_parts(const __grid_constant__ SplitArgs split) {
  __shared__ float all_scales[kWarps][kMostParts];
  const PagedAttentionArgs& args = split.args;
  const int lane = threadIdx.x % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  const int64_t head = int64_t{blockIdx.y} * kWarps + warp, head_dim = args.cache.head_dim;
  const int64_t floats = part_floats(head_dim), top_at = part_top(head_dim);
  // All but what the launch before writes was there when it began.
  const SplitRow row = find_row(split, static_cast<int>(blockIdx.x));
  await_launches();
  if ((row.table < 0 && split.rows == SplitRows::kOfSingles) || head >= dim(args.q, 1)) return;
  const int parts = row.visible > 0 ? (row.visible - 1) / row.size + 1 : 0;
  const float* from = parts_at(split, blockIdx.x, head);
  float* scales = all_scales[warp];
  float top = -INFINITY, total = 0.0f;
  for (int part = lane; part < parts; part += kWarp) top = larger(top, from[part * floats + top_at]);
  for (int offset = kWarp / 2; offset > 0; offset /= 2)
    top = larger(top, __shfl_xor_sync(kAllLanes, top, offset));
  for (int part = lane; part < parts; part += kWarp) {
    const float2 own = *reinterpret_cast<const float2*>(from + part * floats + top_at);
    scales[part] = own.x == -INFINITY ? 0.0f : exp2f(own.x - top);
    total = __fmaf_rn(own.y, scales[part], total);
  }
  total = warp_sum(total);
  __syncwarp();
  for (int64_t d = lane * 4; d < head_dim; d += kWarp * 4) {
    float4 sum = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
#pragma unroll 8
    for (int part = 0; part < parts; ++part)
      add_scaled(sum, *reinterpret_cast<const float4*>(from + part * floats + d), scales[part]);
    float* out = at<float>(args.out, row.t, head) + d;
    const float each[4] = {sum.x, sum.y, sum.z, sum.w};
    for (int i = 0; i < 4 && d + i < head_dim; ++i) out[i] = total == 0.0f ? 0.0f : each[i] / total;
  }
}

// Without vectors one kernel serves all sizes: zeros past a head's end change no sum.
void attend_slab(const SplitArgs& split, const Worker& worker) {
  const KvView& cache = split.args.cache;
  const int64_t parts = int64_t{split.count} * split.most_parts, groups = Groups(split.args).all;
  const int64_t teams = std::clamp<int64_t>(kMostBlocks / groups, 1, parts);
  const auto with = [&]<Reads kReads, int W>() {
    const Grid grid{blocks_of(teams * groups), kThreads, sizeof(Shared<W>)};
    allow_shared(worker, attend_parts<kReads, W>, grid.shared_bytes);
    launch_early(worker, attend_parts<kReads, W>, grid, split);
  };
  const auto in_vectors = [&]<Reads kReads>() {
    if (cache.head_dim <= 64) return with.template operator()<kReads, 64>();
    if (cache.head_dim <= 128) return with.template operator()<kReads, 128>();
    if (cache.head_dim <= 192) return with.template operator()<kReads, 192>();
    with.template operator()<kReads, 256>();
  };
  if (!has_vectors(cache.k, cache.head_dim) || !has_vectors(cache.v, cache.head_dim)) {
    with.template operator()<Reads::kElements, kMostElements>();
  } else if (cache.page_tokens % kSplitTile == 0) {
    in_vectors.template operator()<Reads::kRuns>();
  } else {
    in_vectors.template operator()<Reads::kVectors>();
  }
  launch_early(worker, join_parts,
               {blocks_of(split.count, (split.args.q.dim(1) + kWarps - 1) / kWarps), kThreads}, split);
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
